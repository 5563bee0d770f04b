//! Four rows of cells, in which sources are counted.
//!
//! In: the numbers of a source. Out: its cell in each row. Never here: what a cell holds, or who shares it.

use crate::policy::ROWS;

/// Cells of a row, for each connection that there may be.
const CELLS_FOR_EACH: usize = 8;
pub(super) const LEAST_CELLS: usize = 1 << 10;
/// How often somebody comes, or how much it sends, has nothing to do with how many there may be at once.
pub(super) const LEAST_CELLS_OF_BUCKETS: usize = 1 << 16;

/// Four rows, one after the other.
#[derive(Debug)]
pub(super) struct Table<C> {
    pub(super) cells: Box<[C]>,
    pub(super) width: usize,
}

pub(super) const fn width(max_connections: usize, least: usize) -> usize {
    let cells = (CELLS_FOR_EACH * max_connections).next_power_of_two();
    if cells > least { cells } else { least }
}

impl<C: Default> Table<C> {
    pub(super) fn new(width: usize) -> Self {
        Self {
            cells: (0..ROWS * width).map(|_| C::default()).collect(),
            width,
        }
    }

    /// A source's cell in each row.
    pub(super) fn of(&self, numbers: [u32; ROWS]) -> [&C; ROWS] {
        let mut row = 0;
        numbers.map(|number| {
            let cell = &self.cells[row * self.width + (number as usize & (self.width - 1))];
            row += 1;
            cell
        })
    }
}
