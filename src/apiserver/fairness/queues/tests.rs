//! The queues by themselves, and simulated under loads that are unfair to each other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use base::{Random, SeededRandom};

use super::*;

const MS: Duration = Duration::from_millis(1);
const SHAPE: Shape = Shape {
    queues: 64,
    hand: 6,
    length: 50,
};

#[test]
fn a_level_without_queues_turns_away_what_finds_no_seat() {
    let mut level: Queues<()> = Queues::new(Shape::default(), 2);
    let Arrival::Seated(first) = level.arrive(1, 1, MS) else {
        panic!("there is a seat");
    };
    assert!(matches!(level.arrive(2, 1, MS), Arrival::Seated(_)));
    let refused = Arrival::Refused(Refusal::ConcurrencyLimit);
    assert_eq!(level.arrive(3, 1, MS), refused);
    level.leave(first, 2 * MS);
    assert!(matches!(level.arrive(3, 1, MS), Arrival::Seated(_)));
}

#[test]
fn a_full_queue_refuses_and_one_who_gives_up_makes_room() {
    let shape = Shape {
        queues: 1,
        hand: 1,
        length: 2,
    };
    let mut level = Queues::new(shape, 1);
    let Arrival::Seated(seats) = level.arrive(1, 1, MS) else {
        panic!("there is a seat");
    };
    let places: Vec<Place> = ["a", "b"].map(|who| level.wait(0, 1, who)).to_vec();
    assert_eq!(level.arrive(9, 1, MS), Arrival::Refused(Refusal::QueueFull));
    assert_eq!(level.give_up(places[0], MS), Some("a"));
    assert_eq!(level.give_up(places[0], MS), None);
    assert_eq!(level.arrive(9, 1, MS), Arrival::Waits(0));
    assert!(level.next(MS).is_none());
    level.leave(seats, MS);
    assert_eq!(level.next(MS).map(|(who, _)| who), Some("b"));
    assert_eq!((level.requests(), level.seats()), ((1, 0), (1, 0)));
}

#[test]
fn one_wider_than_everything_goes_alone() {
    let mut level = Queues::new(SHAPE, 4);
    let Arrival::Seated(seats) = level.arrive(1, 1, MS) else {
        panic!("there is a seat");
    };
    let Arrival::Waits(queue) = level.arrive(2, 9, MS) else {
        panic!("it is too wide");
    };
    level.wait(queue, 9, ());
    assert!(level.next(MS).is_none());
    level.leave(seats, MS);
    assert!(level.next(MS).is_some());
    assert!(matches!(level.arrive(3, 1, MS), Arrival::Waits(_)));
}

#[test]
fn fewer_queues_lose_nobody() {
    let mut level = Queues::new(SHAPE, 1);
    let Arrival::Seated(seats) = level.arrive(0, 1, MS) else {
        panic!("there is a seat");
    };
    for flow in 1..20 {
        if let Arrival::Waits(queue) = level.arrive(flow * 7919, 1, MS) {
            level.wait(queue, 1, flow);
        }
    }
    level.reshape(Shape { queues: 1, ..SHAPE });
    level.give(30);
    level.leave(seats, MS);
    let seated = std::iter::from_fn(|| level.next(MS)).count();
    assert_eq!((seated, level.requests()), (19, (19, 0)));
}

/// Clients of one flow, each with one request at a time.
#[derive(Clone, Copy)]
struct Load {
    clients: usize,
    width: u64,
    service: Duration,
    /// How long a client rests between two requests.
    rest: Duration,
}

/// What a flow got.
#[derive(Clone, Debug, Default)]
struct Got {
    done: u64,
    refused: u64,
    /// The longest that one waited.
    waited: Duration,
    seat_seconds: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Comes(usize),
    /// The flow, and which of the running requests.
    Ends(usize, usize),
}

struct World<'l> {
    level: Queues<(usize, Duration)>,
    loads: &'l [Load],
    /// Where the flows' hashes begin.
    salt: u64,
    random: SeededRandom,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    running: Vec<Option<Seats>>,
    got: Vec<Got>,
    order: u64,
}

impl World<'_> {
    fn at(&mut self, when: Duration, event: Event) {
        self.order += 1;
        self.events.push(Reverse((when, self.order, event)));
    }

    fn rests(&mut self, flow: usize, now: Duration) {
        let jitter = Duration::from_micros(self.random.below(500));
        self.at(now + self.loads[flow].rest + jitter, Event::Comes(flow));
    }

    fn seated(&mut self, flow: usize, came: Duration, seats: Seats, now: Duration) {
        let load = self.loads[flow];
        let got = &mut self.got[flow];
        got.waited = got.waited.max(now - came);
        got.seat_seconds += load.service.as_secs_f64() * load.width as f64;
        self.running.push(Some(seats));
        self.at(now + load.service, Event::Ends(flow, self.running.len() - 1));
    }

    fn comes(&mut self, flow: usize, now: Duration) {
        let hash = shuffle::flow(self.salt, "schema", &flow.to_string());
        let width = self.loads[flow].width;
        match self.level.arrive(hash, width, now) {
            Arrival::Seated(seats) => self.seated(flow, now, seats, now),
            Arrival::Waits(queue) => {
                self.level.wait(queue, width, (flow, now));
                self.dispatch(now);
            }
            Arrival::Refused(_) => {
                self.got[flow].refused += 1;
                // A refused client comes back after a second.
                self.rests(flow, now + Duration::from_secs(1));
            }
        }
    }

    fn dispatch(&mut self, now: Duration) {
        while let Some(((flow, came), seats)) = self.level.next(now) {
            self.seated(flow, came, seats, now);
        }
        let ((executing, _), (seats, _)) = (self.level.requests(), self.level.seats());
        assert!(seats <= self.level.limit() || executing == 1, "{seats} seats");
    }
}

/// What each flow gets in ten seconds.
fn simulate(seed: u64, limit: u64, shape: Shape, loads: &[Load]) -> Vec<Got> {
    let mut world = World {
        level: Queues::new(shape, limit),
        loads,
        salt: seed,
        random: SeededRandom::new(seed),
        events: BinaryHeap::new(),
        running: Vec::new(),
        got: vec![Got::default(); loads.len()],
        order: 0,
    };
    for (flow, load) in loads.iter().enumerate() {
        for _ in 0..load.clients {
            world.rests(flow, Duration::ZERO);
        }
    }
    while let Some(Reverse((now, _, event))) = world.events.pop() {
        match event {
            // Clients stop after a while; what they have asked is answered.
            Event::Comes(_) if now > Duration::from_secs(10) => {}
            Event::Comes(flow) => world.comes(flow, now),
            Event::Ends(flow, which) => {
                let seats = world.running[which].take().expect("it runs once");
                world.level.leave(seats, now);
                world.got[flow].done += 1;
                world.dispatch(now);
                world.rests(flow, now);
            }
        }
    }
    assert_eq!((world.level.requests(), world.level.seats()), ((0, 0), (0, 0)));
    assert_eq!(world.level.shown().count(), 0);
    world.got
}

const MOUSE: Load = Load {
    clients: 1,
    width: 1,
    service: Duration::from_millis(10),
    rest: Duration::from_millis(20),
};

#[test]
fn an_elephant_waits_behind_itself_and_not_before_mice() {
    let elephant = Load {
        clients: 290,
        rest: Duration::ZERO,
        ..MOUSE
    };
    let (mut worst, mut own) = (Duration::ZERO, Duration::ZERO);
    for seed in 0..10 {
        let mut loads = vec![elephant];
        loads.extend([MOUSE; 8]);
        let got = simulate(seed, 10, SHAPE, &loads);
        let slowest = got[1..].iter().map(|mouse| mouse.waited).max();
        worst = worst.max(slowest.unwrap_or_default());
        own = own.max(got[0].waited);
        for mouse in &got[1..] {
            assert_eq!(mouse.refused, 0, "{got:?}");
            assert!(mouse.done > 200, "{got:?}");
        }
    }
    assert!(own > 250 * MS, "the elephant waits {own:?}");
    assert!(worst < 50 * MS, "a mouse waited {worst:?}");
}

#[test]
fn an_elephant_that_fills_its_queues_is_refused_and_mice_are_not() {
    let elephant = Load {
        clients: 2_000,
        rest: Duration::ZERO,
        ..MOUSE
    };
    for seed in 0..5 {
        let got = simulate(seed, 10, SHAPE, &[elephant, MOUSE, MOUSE, MOUSE]);
        assert!(got[0].refused > 1_000, "{got:?}");
        assert!(got[1..].iter().all(|mouse| mouse.refused == 0), "{got:?}");
    }
}

#[test]
fn flows_that_want_all_get_the_same_whatever_their_width() {
    let busy = |width, ms| Load {
        clients: 40,
        width,
        service: ms * MS,
        rest: Duration::ZERO,
    };
    let apart = Shape {
        queues: 4_096,
        hand: 1,
        length: 50,
    };
    for seed in 0..10 {
        let got = simulate(
            seed,
            16,
            apart,
            &[busy(1, 10), busy(4, 10), busy(8, 3), busy(1, 30)],
        );
        let all: f64 = got.iter().map(|got| got.seat_seconds).sum();
        for flow in &got {
            let part = flow.seat_seconds / all;
            assert!((0.18..0.32).contains(&part), "{part}: {got:?}");
        }
    }
}

#[test]
fn the_widest_is_not_kept_waiting_by_a_flood_of_narrow_ones() {
    let wide = Load {
        width: 10,
        service: 20 * MS,
        ..MOUSE
    };
    let narrow = Load {
        clients: 45,
        rest: Duration::ZERO,
        ..MOUSE
    };
    for seed in 0..10 {
        let got = simulate(seed, 10, SHAPE, &[wide, narrow, narrow, narrow]);
        assert!(got[0].done > 40, "{got:?}");
        assert!(got[0].waited < Duration::from_secs(1), "{got:?}");
    }
}

#[test]
fn seats_are_never_exceeded_and_every_request_ends() {
    for seed in 0..150 {
        let random = SeededRandom::new(seed);
        let below = |bound| random.below(bound);
        let loads: Vec<Load> = (0..=below(6))
            .map(|_| Load {
                clients: 1 + below(30) as usize,
                width: 1 + below(12),
                service: Duration::from_micros(100 + below(40_000)),
                rest: Duration::from_micros(below(30_000)),
            })
            .collect();
        let shape = Shape {
            queues: below(9) as usize,
            hand: 1 + below(4) as usize,
            length: 1 + below(40) as usize,
        };
        let got = simulate(seed, 1 + below(20), shape, &loads);
        assert!(got.iter().all(|flow| flow.done + flow.refused > 0));
    }
}
