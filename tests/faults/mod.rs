//! Small, fixed traffic through a program whose calls fail, what may come of each, and whether it did.

mod run;
mod table;
mod traffic;
mod verdict;

pub(crate) use run::{Seen, calls_before_the_start, run};
pub(crate) use table::{Errno, Expect, Repeat, Row, Scene, TABLE};
