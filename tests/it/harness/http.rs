//! A client of the metrics endpoint that sees every byte, and Prometheus' own reader of what it serves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use super::Daemon;
use super::machine::program;
use super::waiting::LIMIT;

/// What Prometheus says that it takes.
pub(crate) const ACCEPT_OPENMETRICS: &str = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,\
                                             text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n";

/// An answer, its chunks put together.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// With the status line.
    pub(crate) head: String,
    pub(crate) content: String,
}

/// Where a daemon's metrics endpoint is, each address in order.
pub(crate) fn endpoints(daemon: &Daemon) -> Vec<SocketAddr> {
    let line = daemon.ready_line();
    let (_, list) = line.split_once("; metrics ").expect("the ready line names the endpoint");
    list.split(", ").map(|address| address.trim().parse().expect("an address")).collect()
}

/// A connection to the endpoint.
pub(crate) fn open(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect_timeout(&endpoints(daemon)[0], LIMIT).expect("the endpoint accepts");
    stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
    stream.set_write_timeout(Some(LIMIT)).expect("a time limit");
    stream
}

/// GET with HTTP/1.1.
pub(crate) fn get(daemon: &Daemon, path: &str, fields: &str) -> Answer {
    ask(daemon, &format!("GET {path} HTTP/1.1\r\nHost: proxy\r\n{fields}\r\n"))
}

/// Sends these bytes and reads to the end.
pub(crate) fn ask(daemon: &Daemon, request: &str) -> Answer {
    let mut stream = open(daemon);
    stream.write_all(request.as_bytes()).expect("the endpoint takes a request");
    read(&mut stream)
}

/// Reads an answer to the end of the connection.
pub(crate) fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer with an end");
    let text = String::from_utf8(bytes).expect("text");
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let is_chunked = head.contains("\r\nTransfer-Encoding: chunked");
    let content = if is_chunked && !rest.is_empty() { unchunk(rest) } else { rest.to_owned() };
    Answer { status, head: head.to_owned(), content }
}

/// Puts chunks together; panics unless they end as they have to.
fn unchunk(mut rest: &str) -> String {
    let mut content = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").expect("the length of a chunk");
        let length = usize::from_str_radix(length, 16).expect("hexadecimal digits");
        let (chunk, after) = after.split_at(length);
        content.push_str(chunk);
        rest = after.strip_prefix("\r\n").expect("the end of a chunk");
        if length == 0 {
            assert_eq!(rest, "", "nothing follows the last chunk");
            return content;
        }
    }
}

/// All metrics in the older format.
pub(crate) fn scrape(daemon: &Daemon) -> String {
    let answer = get(daemon, "/metrics", "");
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.content
}

/// The value of a series, written as in the text: `name{label="value"}`.
pub(crate) fn value(text: &str, series: &str) -> f64 {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(series).and_then(|rest| rest.strip_prefix(' ')));
    found.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().expect("a number")
}

/// Runs promtool with something on its standard input; panics with what it says unless it is content.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program("promtool", "prometheus"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("its standard input");
    stdin.write_all(input.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
    text
}
