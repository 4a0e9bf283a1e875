//! One access line, from the record into the worker's batch, and every so many lines the hand-over.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use socks5d::ids::{ListenerId, SessionId, WorkerId};
use socks5d::logging::{AccessRecord, AccessSink, AccessWriter, CloseReason, Destination};
use socks5d::settings::{AccessLog, LogFormat};

use crate::{Work, repeated};

pub(crate) fn access_line_tab() -> Work {
    access_line(LogFormat::Tab)
}

pub(crate) fn access_line_json() -> Work {
    access_line(LogFormat::Json)
}

/// Lines come a millisecond apart, so the seconds of their time change once in a thousand.
fn access_line(format: LogFormat) -> Work {
    let writer = AccessWriter::new(AccessLog::File("/dev/null".into())).expect("/dev/null can be written to");
    let mut sink = writer.sink();
    let mut time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    push(&mut sink, format, time);
    assert!(sink.has_lines(), "the line waits in the batch");
    assert_eq!(sink.flush(), 0, "no line was lost");
    repeated(move || {
        // The writer thread lives as long as its owner.
        let _ = &writer;
        time += Duration::from_millis(1);
        push(&mut sink, format, time);
    })
}

fn push(sink: &mut AccessSink, format: LogFormat, time: SystemTime) {
    let record = AccessRecord {
        time,
        session: SessionId::new(7, WorkerId(1), 42),
        worker: WorkerId(1),
        listener: ListenerId(0),
        user: b"alice",
        client: SocketAddr::from(([192, 0, 2, 9], 50_123)),
        command: 1,
        destination: Destination::Name(b"www.example.com"),
        port: 443,
        reply: Some(0),
        resolved: Some(SocketAddr::from(([198, 51, 100, 7], 443))),
        bytes_up: 1_234,
        bytes_down: 567_890,
        duration: Duration::from_micros(1_234_567),
        dns: Some(Duration::from_micros(12_345)),
        connect: Some(Duration::from_micros(23_456)),
        close: Some(CloseReason::Finished),
    };
    sink.push(format, std::hint::black_box(&record));
}
