//! Operations on a ring and on a consumer, against the models that remember everything.

use super::input::Input;
use crate::consumer::model as consumer;
use crate::ring::model::{self, Ending, Op};
use crate::ring::record::Kind;

/// Claims, commits, releases and waits on a ring; a record was read back.
pub fn ring(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let capacity = 64 << input.below(5);
    let endings = [
        Ending::ConsumerDropped,
        Ending::ProducerDropped,
        Ending::Stopped,
        Ending::Hung,
    ];
    let way = input.below(2 * endings.len());
    let ending = endings[way % endings.len()];
    let start_over = (way >= endings.len()).then_some(capacity / 4);
    let mut ops = Vec::new();
    while !input.is_empty() && ops.len() < 500 {
        ops.push(ring_op(&mut input, capacity));
    }
    model::check(capacity, start_over, &ops, ending) > 0
}

fn ring_op(input: &mut Input<'_>, capacity: usize) -> Op {
    match input.below(8) {
        0..=3 => {
            let count = input.below(4);
            let record = |_| {
                let kinds = [Kind::Data, Kind::Data, Kind::Time, Kind::Gap];
                (input.one_of(&kinds), input.below(256) % (capacity / 2))
            };
            Op::Publish {
                records: (0..count).map(record).collect(),
                more: 4 * input.below(256),
                commit: input.below(5),
            }
        }
        4 | 5 => Op::Release {
            records: input.below(6),
            taken: input.below(256),
        },
        6 => Op::Wait(4 * input.below(256)),
        _ => Op::ClearWait,
    }
}

/// Loans, marks, releases and dropped batches; a record was lent.
pub fn batches(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let batch_max = 16 + 3 * input.below(200);
    let is_dropped = input.below(2) == 0;
    let mut ops = Vec::new();
    while !input.is_empty() && ops.len() < 300 {
        ops.push(consumer_op(&mut input));
    }
    consumer::check(batch_max, &ops, is_dropped) > 0
}

fn consumer_op(input: &mut Input<'_>) -> consumer::Op {
    use consumer::Op;
    match input.below(16) {
        0 => Op::Time,
        1..=10 => Op::Publish(input.below(3), input.byte()),
        _ => {
            let marks = (0..input.below(4))
                .map(|_| (input.below(6), usize::from(input.byte())))
                .collect();
            let until = input.below(8);
            Op::Lend {
                marks,
                // The newest marks, any of them, or none.
                until: match until {
                    0..=3 => Some(until),
                    4 => Some(input.below(100)),
                    _ => None,
                },
                all: input.below(2) == 0,
            }
        }
    }
}
