//! Records of each kind as the sinks render them.

use super::*;

struct Fake {
    raw: &'static [u8],
    framing: Framing,
    shape: Shape,
}

impl Text<'static> for Fake {
    type Iter = std::vec::IntoIter<&'static [u8]>;
    fn raw(&self) -> &'static [u8] {
        self.raw
    }
    fn framing(&self) -> &Framing {
        &self.framing
    }
    fn iter(&self) -> Self::Iter {
        let mut messages = Vec::new();
        let mut rest = self.raw;
        while !rest.is_empty() {
            let (head, size) = match self.framing {
                Framing::U16 => (2, usize::from(u16::from_be_bytes([rest[0], rest[1]]))),
                Framing::Line => (0, memchr::memchr(b'\n', rest).unwrap()),
                _ => (0, memchr::memchr(0, rest).unwrap()),
            };
            messages.push(&rest[head..head + size]);
            rest = &rest[head + size + usize::from(head == 0)..];
        }
        messages.into_iter()
    }
    fn count(&self) -> usize {
        match self.shape {
            Shape::Framed => self.iter().count(),
            _ => 1,
        }
    }
    fn shape(&self) -> Shape {
        self.shape
    }
}

fn framed(framing: Framing, raw: &'static [u8]) -> Fake {
    Fake {
        raw,
        framing,
        shape: Shape::Framed,
    }
}

fn bare(framing: Framing, raw: &'static [u8], shape: Shape) -> Fake {
    Fake {
        raw,
        framing,
        shape,
    }
}

fn written<'b, T: Text<'b>>(rendered: &Rendered<'_, T>, skip: u64) -> Vec<u8> {
    rendered
        .slices(skip)
        .iter()
        .flat_map(|slice| slice.to_vec())
        .collect()
}

fn rendering(output: Output, verbatim: bool, texts: Vec<Fake>) -> Vec<u8> {
    let mut renderer = Renderer::new(output, verbatim);
    let rendered = renderer.render(&mut texts.into_iter());
    let bytes = written(&rendered, 0);
    assert_eq!(bytes.len() as u64, rendered.len());
    bytes
}

const LONG: &[u8] = &[b'x'; COPY_BELOW];

#[test]
fn lines_are_copied_as_they_are_and_a_cut_one_is_given_its_lf() {
    let texts = vec![
        framed(Framing::Line, b"a\\b\n\nc\r\n"),
        bare(Framing::Line, b"cut", Shape::Truncated),
        bare(Framing::Line, LONG, Shape::Unterminated),
        framed(Framing::Line, b"d\n"),
    ];
    let expected = [b"a\\b\n\nc\r\ncut\n", LONG, b"\nd\n"].concat();
    assert_eq!(rendering(Output::Line, true, texts), expected);
}

#[test]
fn no_message_of_another_framing_can_forge_a_second_line() {
    let texts = vec![
        framed(Framing::Nul, b"a\nb\0\\n\0\0"),
        framed(Framing::U16, b"\0\x02\n\\"),
        bare(Framing::Nul, b"cut\n", Shape::Truncated),
    ];
    let expected: &[u8] = b"a\\nb\n\\\\n\n\n\\n\\\\\ncut\\n\n";
    assert_eq!(rendering(Output::Line, false, texts), expected);
}

#[test]
fn raw_messages_come_as_they_came_and_a_cut_one_has_its_new_length() {
    let cut = Shape::Truncated;
    let texts = vec![
        framed(Framing::Nul, b"a\nb\0"),
        bare(Framing::Nul, b"cut", cut),
        bare(Framing::Octet, b"cut", cut),
        bare(Framing::U16, b"cut", cut),
        bare(Framing::U32, b"cut", cut),
        bare(Framing::Varint, LONG, cut),
        bare(Framing::Nul, b"open", Shape::Unterminated),
    ];
    let expected = [
        b"a\nb\0cut\x003 cut\0\x03cut\0\0\0\x03cut\x80\x02".as_slice(),
        LONG,
        b"open",
    ]
    .concat();
    assert_eq!(rendering(Output::Raw, false, texts), expected);
}

/// Whatever the kernel accepts, what is called delivered is exactly the whole messages in it.
#[test]
fn every_partial_write_ends_at_the_last_whole_message() {
    for (output, verbatim) in [(Output::Line, false), (Output::Raw, false)] {
        let mut renderer = Renderer::new(output, verbatim);
        let texts = [
            framed(Framing::Nul, b"a\nb\0\0\\\0"),
            bare(Framing::Nul, b"c\n", Shape::Truncated),
            framed(Framing::U16, b"\0\x01\n\0\0\0\x02ab"),
        ];
        let mut ends = match output {
            Output::Line => vec![5, 6, 9, 13, 16, 17, 20],
            Output::Raw => vec![4, 5, 7, 10, 13, 15, 19],
        };
        let rendered = renderer.render(&mut texts.into_iter());
        assert_eq!(rendered.len(), ends[6]);
        assert_eq!(rendered.messages(), 7);
        ends.insert(0, 0);
        for accepted in 0..=rendered.len() {
            let boundary = rendered.boundary(accepted);
            let whole = ends.iter().rposition(|end| *end <= accepted).unwrap();
            assert_eq!(boundary.messages, whole as u64, "{output:?} {accepted}");
            assert_eq!(boundary.end, ends[whole], "{output:?} {accepted}");
            let place = match whole {
                0 => None,
                1 => Some(Place::Within(0, 4)),
                2 => Some(Place::Within(0, 5)),
                3 => Some(Place::All(0)),
                4 => Some(Place::All(1)),
                5 => Some(Place::Within(2, 3)),
                6 => Some(Place::Within(2, 5)),
                _ => Some(Place::All(2)),
            };
            assert_eq!(boundary.place, place, "{output:?} {accepted}");
            let rest = written(&rendered, boundary.end);
            assert_eq!(rest.len() as u64, rendered.len() - boundary.end);
        }
    }
}

/// A batch is as long as the ring allows; what is copied of it at once is not.
#[test]
fn a_long_batch_is_rendered_in_parts_and_nothing_is_left_out() {
    let lf: &'static [u8] = Box::leak([vec![b'\n'; 60_000], vec![0]].concat().into_boxed_slice());
    for (text, many) in [(b"a\0".as_slice(), 5000), (lf, 50)] {
        let mut texts = (0..many).map(|_| framed(Framing::Nul, text));
        let mut renderer = Renderer::new(Output::Line, false);
        let (mut messages, mut parts) = (0, 0);
        loop {
            let rendered = renderer.render(&mut texts);
            if rendered.is_empty() {
                break;
            }
            parts += 1;
            messages += rendered.messages();
            assert!(rendered.spans.len() <= MOST_RECORDS);
            assert!(renderer.changed.capacity() <= most_memory(text.len()));
        }
        assert_eq!(messages, many);
        assert!(parts > 1);
    }
}
