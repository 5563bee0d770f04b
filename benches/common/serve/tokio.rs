//! What one writes with tokio: a task for each connection, one bounded channel to a task that consumes.
//!
//! `lines` is what everybody writes first. `chunks` is a good one: large reads, cut behind the last
//! delimiter, and whole runs of messages sent without a copy.

use std::net::TcpListener;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::common::framing::Place;
use crate::common::work::Work;

/// Lines in the channel.
const LINES: usize = 1024;
const READ: usize = 64 << 10;
/// Runs in the channel: as many bytes as fanin's ring, if reads are full.
const CHUNKS: usize = 64;

fn serve<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    bound: usize,
    connection: impl Fn(TcpStream, mpsc::Sender<T>) -> F,
    mut consume: impl FnMut(T) + Send + 'static,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (sender, mut receiver) = mpsc::channel(bound);
        tokio::spawn(async move {
            while let Some(what) = receiver.recv().await {
                consume(what);
            }
        });
        let listener = tokio::net::TcpListener::from_std(listener).expect("registered");
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, sender.clone()));
        }
    });
}

pub(super) fn lines(listener: TcpListener, mut work: Work) {
    let connection = |stream, sender: mpsc::Sender<String>| async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(line).await.is_err() {
                return;
            }
        }
    };
    serve(listener, LINES, connection, move |line| {
        work.messages(std::iter::once(line.as_bytes()), line.len() + 1);
        work.publish();
    });
}

pub(super) fn chunks(listener: TcpListener, mut work: Work) {
    let connection = |mut stream: TcpStream, sender: mpsc::Sender<Bytes>| async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ);
            let before = buffer.len();
            match stream.read_buf(&mut buffer).await {
                Ok(1..) => {}
                _ => return,
            }
            let Some(at) = memchr::memrchr(b'\n', &buffer[before..]) else {
                continue;
            };
            let whole = buffer.split_to(before + at + 1).freeze();
            if sender.send(whole).await.is_err() {
                return;
            }
        }
    };
    serve(listener, CHUNKS, connection, move |chunk: Bytes| {
        work.chunk(&mut Place::default(), &chunk);
        work.publish();
    });
}
