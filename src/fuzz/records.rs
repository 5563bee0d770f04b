//! Any bytes as records, and what is read from them written again.

use crate::ring::record::{Closed, Gap, HEADER, Header, Kind, Opened, Walk, write_header};

/// What a walk finds in any bytes is in them, and is written as it was read.
pub fn records(data: &[u8]) -> bool {
    let mut walk = Walk::new(data);
    let mut past = 0;
    for (at, header, payload) in walk.by_ref() {
        assert_eq!(at, past, "a record begins where the last one ends");
        assert_eq!(payload.len(), header.len as usize);
        past += header.record_len();
        let written = &data[at..past];
        let mut again = [0; HEADER];
        write_header(&mut again, header);
        // Two bytes mean nothing, and are written as zeros.
        assert_eq!((&again[..6], &again[6..8]), (&written[..6], &[0; 2][..]));
        assert_eq!(&again[8..], &written[8..HEADER]);
        rewritten(header, payload);
    }
    assert_eq!(past + walk.left(), data.len());
    let rest = &data[past..];
    let is_end = Header::read(rest).is_none_or(|header| header.record_len() > rest.len());
    assert!(is_end, "the walk stopped at a record");
    past > 0
}

/// A payload that is understood is understood again from what it is written as.
fn rewritten(header: Header, payload: &[u8]) {
    let mut buf = [0xff; 64];
    match header.kind {
        Kind::Opened => {
            let Some(opened) = Opened::decode(payload) else {
                return;
            };
            opened.write(header.id, &mut buf);
            assert_eq!(Opened::decode(&buf[HEADER..]), Some(opened));
        }
        Kind::Gap => {
            let Some(gap) = Gap::decode(payload) else {
                return;
            };
            gap.write(header.id, &mut buf);
            assert_eq!(buf[HEADER + 8..][..16], payload[8..24]);
            assert_eq!(Gap::decode(&buf[HEADER..]), Some(gap));
        }
        Kind::Closed => {
            let Some(closed) = Closed::decode(payload) else {
                return;
            };
            closed.write(header.id, &mut buf);
            assert_eq!(buf[HEADER + 8..][..24], payload[8..32]);
            assert_eq!(Closed::decode(&buf[HEADER..]), Some(closed));
        }
        Kind::Data | Kind::Time | Kind::Padding => return,
    }
    let again = Header::read(&buf).expect("a header was written");
    assert_eq!((again.kind, again.id), (header.kind, header.id));
}
