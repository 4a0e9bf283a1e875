//! The client in Python that was written from the specification alone, against the daemon: what it says on its
//! standard output goes to the daemon, record by record, and the other way.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Instant;

use crate::harness::admin::AdminClient;
use crate::harness::{Daemon, LIMIT};

const SCRIPT: &str = "protocol/tests/python/pipo2_client.py";

fn start(password: &str, arguments: &[&str]) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT);
    Command::new("python3")
        .arg("-B")
        .arg(script)
        .args(["-", "root"])
        .args(arguments)
        .env("PIPO_PASSWORD", password)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is one of the packages that the tests use")
}

/// The records that the client writes, until its end.
fn records(child: &mut Child) -> Receiver<Vec<u8>> {
    let mut output = child.stdout.take().expect("standard output is piped");
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut header = [0; 16];
        while output.read_exact(&mut header).is_ok() {
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let mut record = header.to_vec();
            record.resize(length, 0);
            output.read_exact(&mut record[16..]).expect("a whole record");
            if sender.send(record).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Runs the client against the daemon; gives whether it succeeded and what it showed.
fn run(daemon: &Daemon, password: &str, arguments: &[&str]) -> (bool, String) {
    let mut child = start(password, arguments);
    let records = records(&mut child);
    let mut input = child.stdin.take().expect("standard input is piped");
    let mut association = AdminClient::connect(daemon);
    let deadline = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < deadline, "the client has not ended");
        match records.try_recv() {
            Ok(record) => association.send(&record),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break,
        }
        while let Some(message) = association.take() {
            // A client that has heard enough reads no more.
            if input.write_all(&message).is_err() {
                break;
            }
        }
    }
    drop(input);
    let output = child.wait_with_output().expect("the end of the client");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_client_that_knows_the_specification_only_logs_in_and_reads_everything() {
    let daemon = Daemon::start(&["--admin", "root:secret"]);
    let (success, shown) = run(&daemon, "secret", &["0x0101"]);
    assert!(success, "{shown}");
    assert!(shown.starts_with(r#"{"status": 0, "body": {"0": "#) && shown.contains("socks5d "), "{shown}");
    // Parts, with credit returned: more than one record of settings for the least credit.
    let (success, shown) = run(&daemon, "secret", &["0x0501", "0=4096"]);
    assert!(success, "{shown}");
    assert!(shown.lines().count() >= 2 && shown.contains("\"idle-timeout\""), "{shown}");
    // A change, and an error with its status.
    let (success, shown) = run(&daemon, "secret", &["0x0503", "1=idle-timeout", "2=never mind"]);
    assert!(success && shown.starts_with(r#"{"status": 7, "#), "{shown}");
    let (success, shown) = run(&daemon, "wrong", &["0x0101"]);
    assert!(!success && shown.contains("refused with status 4"), "{shown}");
}
