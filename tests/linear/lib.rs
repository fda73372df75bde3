//! Judges histories: can what clients were told have happened in one order, in
//! which everything takes effect at one moment between its call and its return?
//!
//! The store's simulator and the scenarios over real processes use the same
//! judge. [`Registers`] collects what clients asked for, what they were told and
//! what was seen to happen; [`linearizable`] looks for the order.

mod registers;
mod search;

pub use registers::{Registers, Told, Wish};
pub use search::{Action, Operation, linearizable};
