/* An HTTP server that ends as a server behind a balancer should: on SIGTERM it takes the connections that
 * were made already, answers what is asked with `Connection: close`, gives idle connections a second to
 * ask, and ends with code 0 when the last one is gone. Before it listens it waits START_DELAY_MS, as a
 * program does that has to load something, so that readiness has a meaning.
 *
 *     cc -O1 -static -o polite polite.c        answers GREETING and its host name on port 8080
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 1024, HEAD_MAX = 4096, IDLE_MS = 1000 };

struct connection {
    int fd;
    size_t held;
    char head[HEAD_MAX];
};

static struct connection connections[CONNECTIONS_MAX];
static int count;
static volatile sig_atomic_t stopping;
static char body[256];

static void on_term(int signal) {
    (void)signal;
    stopping = 1;
}

static long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void take_all(int listener) {
    while (count < CONNECTIONS_MAX) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        connections[count].fd = fd;
        connections[count].held = 0;
        count++;
    }
}

static void drop(int index) {
    close(connections[index].fd);
    connections[index] = connections[--count];
}

/* Answers every whole request that is held; 0 when the connection is to be closed. */
static int answer(struct connection *c) {
    char *end;
    while ((end = memmem(c->head, c->held, "\r\n\r\n", 4)) != NULL) {
        size_t request = (size_t)(end + 4 - c->head);
        int close_it = stopping || memmem(c->head, request, "Connection: close", 17) != NULL;
        char reply[512];
        int length = snprintf(reply, sizeof reply,
                              "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s",
                              strlen(body), close_it ? "close" : "keep-alive", body);
        /* Small enough for any socket buffer, so it is written whole. */
        if (write(c->fd, reply, (size_t)length) != length || close_it)
            return 0;
        c->held -= request;
        memmove(c->head, c->head + request, c->held);
    }
    return c->held < HEAD_MAX;
}

/* 0 when the connection is over. */
static int serve(struct connection *c) {
    ssize_t got = read(c->fd, c->head + c->held, HEAD_MAX - c->held);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return 0;
    c->held += (size_t)got;
    return answer(c);
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 512) != 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

int main(void) {
    static struct pollfd polled[CONNECTIONS_MAX + 1];
    struct sigaction term = {.sa_handler = on_term};
    const char *greeting = getenv("GREETING"), *delay = getenv("START_DELAY_MS");
    char host[128] = "";
    long stopped = 0;
    int listener;

    sigaction(SIGTERM, &term, NULL);
    signal(SIGPIPE, SIG_IGN);
    gethostname(host, sizeof host - 1);
    snprintf(body, sizeof body, "%.80s from %s\n", greeting ? greeting : "hello", host);
    usleep((useconds_t)(delay ? atoi(delay) : 0) * 1000);
    listener = listen_on(8080);
    while (!stopped || count > 0) {
        if (stopping && !stopped) {
            stopped = now_ms();
            take_all(listener);
            close(listener);
            listener = -1;
        }
        for (int i = 0; i < count; i++)
            polled[i] = (struct pollfd){.fd = connections[i].fd, .events = POLLIN};
        polled[count] = (struct pollfd){.fd = listener, .events = POLLIN};
        poll(polled, (nfds_t)count + 1, 50);
        /* From the end: what is dropped is replaced by the last one, which has been looked at. */
        for (int i = count - 1; i >= 0; i--)
            if (polled[i].revents && !serve(&connections[i]))
                drop(i);
        if (listener >= 0)
            take_all(listener);
        if (stopped && now_ms() - stopped > IDLE_MS)
            for (int i = count - 1; i >= 0; i--)
                if (connections[i].held == 0)
                    drop(i);
    }
    return 0;
}
