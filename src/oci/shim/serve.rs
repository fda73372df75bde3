//! Answers the agent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, watch};

use super::container::{Container, Running, Typed, feed};
use super::reaper::Reaper;
use super::surroundings::Surroundings;
use crate::protocol::{self, Answer, Ask, Result, VERSION, kind};
use crate::spec::{Chunk, OciError, Stream};

/// The shim's state; one thread, so no locks.
struct Shim {
    surroundings: Rc<Surroundings>,
    containers: RefCell<BTreeMap<String, Rc<Container>>>,
    reaper: Reaper,
    ending: tokio::sync::Notify,
}

/// Answers until told to end.
pub(super) async fn serve(listener: UnixListener, surroundings: Rc<Surroundings>) -> io::Result<()> {
    let shim = Rc::new(Shim {
        surroundings,
        containers: RefCell::default(),
        reaper: Reaper::default(),
        ending: tokio::sync::Notify::new(),
    });
    let reaper = shim.reaper.clone();
    tokio::task::spawn_local(async move {
        if let Err(error) = reaper.run().await {
            eprintln!("shim: cannot collect children: {error}");
        }
    });
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let (stream, _) = connection?;
                let shim = shim.clone();
                tokio::task::spawn_local(async move {
                    if let Err(error) = shim.attend(stream).await {
                        eprintln!("shim: connection: {error}");
                    }
                });
            }
            () = shim.ending.notified() => {
                sys::cgroup::kill_all(&shim.surroundings.cgroup);
                return Ok(());
            }
        }
    }
}

impl Shim {
    async fn attend(&self, mut stream: UnixStream) -> io::Result<()> {
        let Some((_, payload)) = protocol::receive(&mut stream).await? else {
            return Ok(());
        };
        let ask: Ask = match serde_json::from_slice(&payload) {
            Ok(ask) => ask,
            Err(error) => {
                return reply(
                    &mut stream,
                    Err(OciError::Shim(format!("not understood: {error}"))),
                )
                .await;
            }
        };
        match ask {
            Ask::Exec { id, spec } => {
                match self
                    .find(&id)
                    .and_then(|container| container.exec(&spec, &self.reaper))
                {
                    Err(error) => reply(&mut stream, Err(error)).await,
                    Ok(running) => {
                        reply(&mut stream, Ok(Answer::Streams)).await?;
                        stream_exec(stream, running).await
                    }
                }
            }
            Ask::Attach { id, stdin } => match self.find(&id) {
                Err(error) => reply(&mut stream, Err(error)).await,
                Ok(container) if !container.is_running() => {
                    reply(&mut stream, Err(OciError::NotRunning(id))).await
                }
                Ok(container) => {
                    let output = container.listen();
                    reply(&mut stream, Ok(Answer::Streams)).await?;
                    stream_attach(stream, &container, output, stdin).await
                }
            },
            Ask::Wait { id } => {
                let answer = self.wait(&id).await;
                reply(&mut stream, answer).await
            }
            other => {
                let ends = matches!(other, Ask::Shutdown);
                let answer = self.answer(other);
                reply(&mut stream, answer).await?;
                if ends {
                    self.ending.notify_one();
                }
                Ok(())
            }
        }
    }

    fn find(&self, id: &str) -> Result<Rc<Container>> {
        self.containers
            .borrow()
            .get(id)
            .cloned()
            .ok_or_else(|| OciError::NotFound(id.to_owned()))
    }

    fn answer(&self, ask: Ask) -> Result<Answer> {
        match ask {
            Ask::Hello => Ok(Answer::Hello { version: VERSION }),
            Ask::Create { spec, layers } => {
                if !self.containers.borrow().contains_key(&spec.id) {
                    let id = spec.id.clone();
                    let target = self.target(spec.target.as_deref())?;
                    let container = Container::create(*spec, &layers, self.surroundings.clone(), target)?;
                    self.containers.borrow_mut().insert(id, Rc::new(container));
                }
                Ok(Answer::Done)
            }
            Ask::Start { id } => self
                .find(&id)?
                .start(&self.reaper)
                .map(|at| Answer::Started { at }),
            Ask::Signal { id, signal, all } => self.find(&id)?.signal(signal, all).map(|()| Answer::Done),
            Ask::Remove { id } => {
                self.find(&id)?.remove()?;
                self.containers.borrow_mut().remove(&id);
                Ok(Answer::Done)
            }
            Ask::List => Ok(Answer::List(
                self.containers.borrow().values().map(|c| c.found()).collect(),
            )),
            Ask::Shutdown => Ok(Answer::Done),
            Ask::Exec { .. } | Ask::Attach { .. } | Ask::Wait { .. } => {
                Err(OciError::Shim("asked in the wrong place".to_owned()))
            }
        }
    }

    /// The main process of the container whose processes another one is to see.
    fn target(&self, id: Option<&str>) -> Result<Option<Pid>> {
        let Some(id) = id else { return Ok(None) };
        let pid = self.find(id)?.pid();
        pid.map(Some).ok_or_else(|| OciError::NotRunning(id.to_owned()))
    }

    async fn wait(&self, id: &str) -> Result<Answer> {
        let mut exit = self.find(id)?.exit();
        let ended = exit.wait_for(Option::is_some).await.map(|exit| (*exit).clone());
        match ended {
            Ok(Some(exit)) => Ok(Answer::Ended(exit)),
            _ => Err(OciError::NotFound(id.to_owned())),
        }
    }
}

async fn reply(stream: &mut UnixStream, answer: Result<Answer>) -> io::Result<()> {
    protocol::send_json(stream, kind::MESSAGE, &answer).await
}

async fn send_chunk(to: &mut OwnedWriteHalf, chunk: &Chunk) -> io::Result<()> {
    let what = match chunk.stream {
        Stream::Stdout => kind::STDOUT,
        Stream::Stderr => kind::STDERR,
    };
    protocol::send(to, what, &chunk.bytes).await
}

/// Carries what the client types, until it hangs up.
async fn read_typed(from: &mut OwnedReadHalf, to: Option<&mpsc::Sender<Typed>>) {
    while let Ok(Some((what, bytes))) = protocol::receive(from).await {
        let typed = match what {
            kind::STDIN if bytes.is_empty() => Typed::End,
            kind::STDIN => Typed::Bytes(bytes),
            kind::RESIZE => match serde_json::from_slice(&bytes) {
                Ok(size) => Typed::Size(size),
                Err(_) => continue,
            },
            _ => continue,
        };
        if let Some(to) = to {
            // A process that reads no more does not mind.
            let _ = to.send(typed).await;
        }
    }
}

async fn stream_exec(stream: UnixStream, running: Running) -> io::Result<()> {
    let Running { pid, near, ended } = running;
    let (mut from, mut to) = stream.into_split();
    let (sender, mut chunks) = mpsc::channel::<Chunk>(16);
    let (tell, told) = watch::channel(false);
    for (stream, mut output) in near.outputs {
        let (sender, mut told) = (sender.clone(), told.clone());
        tokio::task::spawn_local(async move {
            let mut buffer = vec![0; 16 << 10];
            while let n @ 1.. = output.rest(&mut buffer, &mut told).await {
                let bytes = bytes::Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default());
                if sender.send(Chunk { stream, bytes }).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let (typed, receiver) = mpsc::channel(16);
    match (near.stdin, near.terminal) {
        (Some(input), terminal) => {
            tokio::task::spawn_local(feed(input, terminal, receiver));
        }
        (None, Some(terminal)) => {
            tokio::task::spawn_local(resize_only(terminal, receiver));
        }
        (None, None) => drop(receiver),
    }
    let mut ended = std::pin::pin!(ended);
    let mut typing = std::pin::pin!(read_typed(&mut from, Some(&typed)));
    let code = loop {
        tokio::select! {
            Some(chunk) = chunks.recv() => if let Err(error) = send_chunk(&mut to, &chunk).await {
                let _ = kill(pid, Signal::SIGKILL);
                return Err(error);
            },
            ending = &mut ended => break ending.map_or(137, |ending| ending.code),
            () = &mut typing => {
                // The client has gone, and with it the reason for the process.
                let _ = kill(pid, Signal::SIGKILL);
                return Ok(());
            }
        }
    };
    // What was printed before the end is still in the pipes.
    tell.send_replace(true);
    while let Some(chunk) = chunks.recv().await {
        send_chunk(&mut to, &chunk).await?;
    }
    protocol::send_json(&mut to, kind::EXIT, &code).await
}

async fn resize_only(
    terminal: Rc<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>,
    mut typed: mpsc::Receiver<Typed>,
) {
    while let Some(what) = typed.recv().await {
        if let Typed::Size(size) = what {
            super::outputs::resize(&terminal, size);
        }
    }
}

async fn stream_attach(
    stream: UnixStream,
    container: &Container,
    mut output: broadcast::Receiver<Chunk>,
    stdin: bool,
) -> io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let input = container.input().filter(|_| stdin);
    let mut exit = container.exit();
    let mut typing = std::pin::pin!(read_typed(&mut from, input.as_ref()));
    let code = loop {
        tokio::select! {
            biased;
            chunk = output.recv() => match chunk {
                Ok(chunk) => send_chunk(&mut to, &chunk).await?,
                // A client that is too slow misses what it could not take; the log has it all.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break 0,
            },
            ended = exit.wait_for(Option::is_some) => {
                break ended.ok().and_then(|exit| exit.as_ref().map(|exit| exit.code)).unwrap_or(137);
            }
            () = &mut typing => {
                container.input_used();
                return Ok(());
            }
        }
    };
    protocol::send_json(&mut to, kind::EXIT, &code).await
}
