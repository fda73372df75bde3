//! How many seats each level has: its share of the server's, what it lends, and what it may borrow. Pure.

/// What a level is given of the server's seats, before anybody borrows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nominal {
    /// Its own share (`NominalCL`).
    pub own: u64,
    /// What it keeps, however much others want (`MinCL`).
    pub least: u64,
    /// What it has at most, however much others lend (`MaxCL`).
    pub most: u64,
}

/// What the object of a level says of its seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Its part, compared with the other levels' (`nominalConcurrencyShares`).
    pub shares: u64,
    /// Per cent of its seats that others may borrow.
    pub lendable: u64,
    /// Per cent of its seats that it may borrow in addition; as many as there are, if it does not say.
    pub borrowing: Option<u64>,
}

/// Divides the server's seats among the levels, by their shares.
pub fn nominal(server: u64, levels: &[Shares]) -> Vec<Nominal> {
    let all: u64 = levels.iter().map(|level| level.shares).sum();
    let own = |level: &Shares| (server * level.shares).div_ceil(all.max(1));
    let total: u64 = levels.iter().map(own).sum();
    let of = |level: &Shares| {
        let own = own(level);
        let part = |per_cent: u64| (own as f64 * per_cent as f64 / 100.0).round() as u64;
        Nominal {
            own,
            least: own.saturating_sub(part(level.lendable)),
            most: level
                .borrowing
                .map_or(total, |most| (own + part(most)).min(total)),
        }
    };
    levels.iter().map(of).collect()
}

/// The widest that a request of a level may be, so that one request does not take a level for itself.
pub fn width_max(nominal: Nominal) -> u64 {
    ((nominal.own as f64 * 0.15).ceil() as u64).max(1)
}

/// What a level wants.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wish {
    /// It is given this in any case.
    pub least: f64,
    /// And never more than this.
    pub most: f64,
    /// Its part in what is there, compared with the others'.
    pub target: f64,
}

/// Gives each level the same fraction of its target, but nobody less than their least nor more than their most, so that
/// all seats are given out. Returns that fraction too.
pub fn shared(seats: f64, wishes: &[Wish]) -> (Vec<f64>, f64) {
    let given = |fraction: f64| -> Vec<f64> {
        let one = |wish: &Wish| {
            (fraction * wish.target)
                .max(wish.least)
                .min(wish.most.max(wish.least))
        };
        wishes.iter().map(one).collect()
    };
    let sum = |fraction: f64| given(fraction).iter().sum::<f64>();
    let smallest = wishes
        .iter()
        .map(|wish| wish.target)
        .filter(|target| *target > 0.0);
    // Beyond it, everybody has their most.
    let mut high = seats / smallest.fold(f64::INFINITY, f64::min).max(1e-3);
    let mut low = 0.0;
    if sum(low) >= seats {
        return (given(low), low);
    }
    // The sum grows with the fraction: halving finds the place closely enough for whole seats.
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        match sum(middle) < seats {
            true => low = middle,
            false => high = middle,
        }
    }
    (given(high), high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Random, SeededRandom};

    #[test]
    fn the_suggested_levels_have_the_documented_seats() {
        // exempt, catch-all, system, node-high, leader-election, workload-high, workload-low, global-default
        let levels = [
            (0, 0),
            (5, 0),
            (30, 33),
            (40, 25),
            (10, 0),
            (40, 50),
            (100, 90),
            (20, 50),
        ]
        .map(|(shares, lendable)| Shares {
            shares,
            lendable,
            borrowing: None,
        });
        let own: Vec<u64> = nominal(600, &levels).iter().map(|level| level.own).collect();
        assert_eq!(own, [0, 13, 74, 98, 25, 98, 245, 49]);
        let low = nominal(600, &levels)[6];
        assert_eq!((low.least, low.most), (24, 602));
        assert_eq!(width_max(low), 37);
    }

    #[test]
    fn a_level_borrows_no_more_than_it_says() {
        let levels = [Some(50), Some(0), None].map(|borrowing| Shares {
            shares: 10,
            lendable: 0,
            borrowing,
        });
        let most: Vec<u64> = nominal(60, &levels).iter().map(|level| level.most).collect();
        assert_eq!(most, [30, 20, 60]);
        assert!(nominal(60, &[]).is_empty());
    }

    #[test]
    fn what_nobody_wants_goes_to_those_who_do() {
        let wish = |least, most, target| Wish { least, most, target };
        let (given, _) = shared(100.0, &[wish(10.0, 100.0, 10.0), wish(20.0, 100.0, 400.0)]);
        assert!(
            (given[0] - 10.0).abs() < 0.01 && (given[1] - 90.0).abs() < 0.01,
            "{given:?}"
        );
        let (idle, _) = shared(100.0, &[wish(10.0, 100.0, 10.0), wish(30.0, 100.0, 30.0)]);
        assert!(
            (idle[0] - 25.0).abs() < 0.01 && (idle[1] - 75.0).abs() < 0.01,
            "{idle:?}"
        );
    }

    #[test]
    fn bounds_hold_and_no_seat_is_left_over() {
        let random = SeededRandom::new(11);
        let below = |bound| random.below(bound) as f64;
        for _ in 0..2_000 {
            let wishes: Vec<Wish> = (0..=random.below(8))
                .map(|_| {
                    let least = below(50);
                    let most = least + below(200);
                    let target = least.max(below(300));
                    Wish { least, most, target }
                })
                .collect();
            let (least, most): (f64, f64) = (
                wishes.iter().map(|w| w.least).sum(),
                wishes.iter().filter(|w| w.target > 0.0).map(|w| w.most).sum(),
            );
            let seats = least + below(100);
            let (given, _) = shared(seats, &wishes);
            for (given, wish) in given.iter().zip(&wishes) {
                assert!(*given >= wish.least && *given <= wish.most.max(wish.least));
            }
            let sum: f64 = given.iter().sum();
            if most >= seats {
                assert!((sum - seats).abs() < 0.5, "{sum} of {seats}: {wishes:?}");
            }
        }
    }
}
