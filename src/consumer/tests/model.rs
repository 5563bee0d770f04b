//! Any mix of loans, marks old and new, partial releases and dropped batches, against the model.

use proptest::prelude::*;

use crate::consumer::model::{self, Op};

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let marks = prop::collection::vec((0usize..6, any::<usize>()), 0..4);
    let until = prop::option::of(prop_oneof![3 => 0usize..4, 1 => 0usize..100]);
    let lend = (marks, until, any::<bool>());
    let op = prop_oneof![
        1 => Just(Op::Time),
        12 => (0usize..3, any::<u8>()).prop_map(|(slot, number)| Op::Publish(slot, number)),
        6 => lend.prop_map(|(marks, until, all)| Op::Lend { marks, until, all }),
    ];
    prop::collection::vec(op, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_lent_until_it_is_released_and_once(
        batch_max in 16usize..600,
        ops in ops(),
        is_dropped: bool,
    ) {
        model::check(batch_max, &ops, is_dropped);
    }
}
