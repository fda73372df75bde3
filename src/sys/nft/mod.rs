//! nftables for IPv4 and IPv6 by our own nfnetlink encoder: no `nft` program,
//! no JSON.
//!
//! A [`Batch`] collects what is to change; [`Nft::commit`] hands it to the
//! kernel, which takes all of it in one step or nothing. What is not here,
//! we do not use: other families, flowtables, stateful objects.

mod batch;
mod error;
mod expr;
mod family;
mod messages;

use std::io;

use crate::netlink::{self, Ack, Message, Socket, attribute, text};

pub use batch::{Batch, Chain, ChainKind, Data, Element, HookPoint, SetKind, SetSpec};
pub use error::NftError;
pub use expr::{Expr, Reg, Verdict};
pub use family::Family;

use messages::{GET_ELEMENT, GET_TABLE, header};

/// Longest name of a table, chain or set, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// A conversation with one namespace's nftables.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// Opens it for the calling thread's network namespace.
    pub fn open() -> io::Result<Nft> {
        Ok(Nft {
            socket: Socket::open(netlink::Family::Netfilter)?,
        })
    }

    /// Carries out a batch: all of it or, on an error, nothing.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        // Replies to a batch that was given up on must not answer this one.
        self.socket.drain();
        self.socket.send(&batch.finish())?;
        let mut refusal: Option<Ack> = None;
        loop {
            for ack in self.socket.receive()?.iter().filter_map(Message::ack) {
                let last = ack.sequence == batch.last_sequence();
                // Sequence 0 is the batch itself: not permitted, no memory.
                let whole = ack.sequence == 0 && ack.errno != 0;
                if ack.errno != 0 && refusal.is_none() {
                    refusal = Some(ack);
                }
                if last || whole {
                    return refusal.map_or(Ok(()), |ack| Err(batch.refused(ack)));
                }
            }
        }
    }

    /// The names of all tables of a family.
    pub fn tables(&mut self, family: Family) -> io::Result<Vec<String>> {
        let messages = self.socket.dump(GET_TABLE, |b| header(b, family.number()))?;
        let name = |m: &Message| Some(text(attribute(m.body.get(4..)?, 1)?));
        Ok(messages.iter().filter_map(name).collect())
    }

    /// The keys of all elements of a set or map. An absent one has none.
    pub fn keys(&mut self, family: Family, table: &str, set: &str) -> io::Result<Vec<Vec<u8>>> {
        let dump = self.socket.dump(GET_ELEMENT, |b| {
            header(b, family.number());
            b.text(1, table).text(2, set);
        });
        let messages = match dump {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        Ok(messages.iter().flat_map(|m| keys(&m.body)).collect())
    }

    /// What a map holds for a key; `None` if nothing.
    pub fn value(&mut self, family: Family, map: (&str, &str), key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let (found, ack) = self.socket.query(GET_ELEMENT, 0, |b| {
            header(b, family.number());
            b.text(1, map.0).text(2, map.1).nest(3, |b| {
                b.nest(1, |b| {
                    b.nest(1, |b| {
                        b.attribute(1, key);
                    });
                });
            });
        })?;
        if ack.errno == libc::ENOENT {
            return Ok(None);
        }
        ack.into_result(&format!("look up an element of {}", map.1))?;
        let value = |message: &Message| {
            let element = attribute(attribute(message.body.get(4..)?, 3)?, 1)?;
            Some(attribute(attribute(element, 2)?, 1)?.to_vec())
        };
        Ok(found.iter().find_map(value))
    }
}

/// The keys in one message of an element dump.
fn keys(body: &[u8]) -> Vec<Vec<u8>> {
    let list = body.get(4..).and_then(|rest| attribute(rest, 3)).unwrap_or(&[]);
    let key = |element: &[u8]| Some(attribute(attribute(element, 1)?, 1)?.to_vec());
    crate::netlink::attributes(list)
        .filter_map(|(_, element)| key(element))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::as_root;

    const KEY: Reg = Reg::new(0);

    fn table_with_map() -> Batch {
        let mut batch = Batch::new(Family::Ip);
        batch.clear_table("t").add_table("t");
        batch.add_set(
            "t",
            &SetSpec {
                name: "m",
                key: (7, 4),
                kind: SetKind::Plain,
                data: Data::Value(7, 4),
            },
        );
        batch.add_set(
            "t",
            &SetSpec {
                name: "v",
                key: (7, 4),
                kind: SetKind::Plain,
                data: Data::Verdict,
            },
        );
        batch.add_chain(
            "t",
            &Chain {
                name: "out",
                hook: Some((ChainKind::Nat, HookPoint::Output, -100)),
            },
        );
        batch.add_chain(
            "t",
            &Chain {
                name: "c",
                hook: None,
            },
        );
        batch.add_rule(
            "t",
            "out",
            &[Expr::destination(Family::Ip, KEY), Expr::verdict_map("v", KEY)],
        );
        batch.add_elements(
            "t",
            "v",
            &[Element::Verdict(vec![10, 0, 0, 1], Verdict::Goto("c".into()))],
        );
        batch
    }

    #[test]
    fn a_table_is_made_replaced_and_removed() {
        as_root(|| {
            let mut nft = Nft::open().unwrap();
            nft.commit(&table_with_map()).unwrap();
            nft.commit(&table_with_map()).unwrap();
            assert_eq!(nft.tables(Family::Ip).unwrap(), ["t"]);
            assert_eq!(nft.keys(Family::Ip, "t", "v").unwrap(), [vec![10, 0, 0, 1]]);
            nft.commit(Batch::new(Family::Ip).clear_table("t")).unwrap();
            assert!(nft.tables(Family::Ip).unwrap().is_empty());
            assert!(nft.keys(Family::Ip, "t", "v").unwrap().is_empty());
        });
    }

    #[test]
    fn a_refused_batch_changes_nothing_and_says_why() {
        as_root(|| {
            let mut nft = Nft::open().unwrap();
            nft.commit(&table_with_map()).unwrap();
            let mut batch = Batch::new(Family::Ip);
            batch.add_elements("t", "m", &[Element::Value(vec![1; 4], vec![2; 4])]);
            batch.delete_elements("t", "m", &[Element::Key(vec![9; 4])]);
            let error = nft.commit(&batch).unwrap_err().to_string();
            assert!(error.contains("delete elements from m: No such file"), "{error}");
            assert!(nft.keys(Family::Ip, "t", "m").unwrap().is_empty());
            // The conversation goes on after a refusal.
            let mut batch = Batch::new(Family::Ip);
            batch.add_elements("t", "m", &[Element::Value(vec![1; 4], vec![2; 4])]);
            nft.commit(&batch).unwrap();
            assert_eq!(nft.keys(Family::Ip, "t", "m").unwrap().len(), 1);
            let value = |nft: &mut Nft, key| nft.value(Family::Ip, ("t", "m"), &[key; 4]).unwrap();
            assert_eq!((value(&mut nft, 1), value(&mut nft, 9)), (Some(vec![2; 4]), None));
        });
    }

    #[test]
    fn fifty_thousand_elements_go_in_one_step() {
        as_root(|| {
            let mut nft = Nft::open().unwrap();
            let elements: Vec<Element> = (0..50_000u32)
                .map(|n| Element::Value(n.to_be_bytes().to_vec(), n.to_be_bytes().to_vec()))
                .collect();
            let mut batch = table_with_map();
            batch.add_elements("t", "m", &elements);
            nft.commit(&batch).unwrap();
            assert_eq!(nft.keys(Family::Ip, "t", "m").unwrap().len(), 50_000);
            let mut times: Vec<_> = (0..200).map(|_| change_one(&mut nft)).collect();
            times.sort();
            println!("one changed element among 50,000: median {:?}", times[100]);
            assert!(times[100] < std::time::Duration::from_millis(2));
        });
    }

    fn change_one(nft: &mut Nft) -> std::time::Duration {
        let start = std::time::Instant::now();
        let mut batch = Batch::new(Family::Ip);
        batch.delete_elements("t", "m", &[Element::Key(vec![0; 4])]);
        batch.add_elements("t", "m", &[Element::Value(vec![0; 4], vec![1; 4])]);
        nft.commit(&batch).unwrap();
        start.elapsed()
    }
}
