//! A handle asks and orders; messages come to the consumers alone.

fn main() {}

fn read(handle: &fanin::Handle) {
    let _ = handle.wait(); //~ E0599
}
