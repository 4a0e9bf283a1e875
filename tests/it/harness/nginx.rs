//! nginx as the origin of files: 256 MiB made once and kept, small ones beside it, on IPv4 and IPv6.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::bytes::Rng;
use super::machine::{TempDir, free_port, program};
use super::origin::{V4, V6};
use super::process::Process;

/// The largest file, bytes.
pub(crate) const LARGE_BYTES: usize = 256 << 20;
/// The small file, bytes.
pub(crate) const SMALL_BYTES: usize = 100_000;
/// What the page at `/` says.
pub(crate) const PAGE: &str = "<!doctype html><title>origin</title><p id=said>the page of the origin</p>";

/// A running nginx that serves the files.
#[derive(Debug)]
pub(crate) struct Nginx {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

/// A file that the origin serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginFile {
    /// `/small`.
    Small,
    /// `/large`.
    Large,
}

/// SHA-256 of something.
pub(crate) type Hash = [u8; 32];

impl Nginx {
    /// Starts it on a free port of 127.0.0.1 and ::1.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new();
        let port = free_port();
        let configuration = folder.file("nginx.conf", configuration(port, folder.path(), &files_folder()));
        let mut command = Command::new(program("nginx", "nginx-light"));
        command.arg("-p").arg(folder.path()).arg("-e").arg("stderr").arg("-c").arg(configuration);
        let mut process = Process::start("nginx", command.stdout(Stdio::null()));
        process.wait_ready(|| [V4, V6].iter().all(|ip| TcpStream::connect((*ip, port)).is_ok()));
        Self { port, _process: process, _folder: folder }
    }

    /// Where it listens in a family.
    pub(crate) fn address(&self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.port)
    }

    /// Its port in both families.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl OriginFile {
    /// Path and length.
    fn facts(self) -> (&'static str, usize) {
        match self {
            Self::Small => ("small", SMALL_BYTES),
            Self::Large => ("large", LARGE_BYTES),
        }
    }

    /// Path in a URL, without the slash.
    pub(crate) fn path(self) -> &'static str {
        self.facts().0
    }

    /// Makes the file where it is not there yet and gives its hash, which stands beside it.
    pub(crate) fn hash(self) -> Hash {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, length) = self.facts();
        let folder = files_folder();
        let hash_path = folder.join(format!("{name}.sha256"));
        let complete = std::fs::metadata(folder.join(name)).is_ok_and(|file| file.len() == length as u64);
        if let (true, Ok(hash)) = (complete, std::fs::read(&hash_path)) {
            return hash.try_into().expect("32 bytes of hash");
        }
        let hash = write_random(&folder.join(name), length);
        std::fs::write(hash_path, hash).expect("room for a hash");
        hash
    }
}

/// Fetches a file over a stream that leads to the origin and hashes what comes. Checks status and length.
pub(crate) fn fetch(stream: &mut TcpStream, file: OriginFile) -> Hash {
    fetch_watched(stream, file, |_| {})
}

/// The same; `watch` is told how many bytes there are before more are read.
pub(crate) fn fetch_watched(stream: &mut TcpStream, file: OriginFile, watch: impl Fn(usize)) -> Hash {
    let (name, length) = file.facts();
    let request = format!("GET /{name} HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the request goes out");
    let mut unread = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    let head_length = loop {
        let got = stream.read(&mut buffer).expect("the head of the answer");
        assert!(got > 0, "the origin closed inside the head: {}", String::from_utf8_lossy(&unread));
        unread.extend_from_slice(&buffer[..got]);
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    assert!(unread.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&unread[..head_length]));
    let mut hash = Sha256::new();
    hash.update(&unread[head_length..]);
    let mut total = unread.len() - head_length;
    loop {
        watch(total);
        let got = stream.read(&mut buffer).expect("the body of the answer");
        if got == 0 {
            break;
        }
        hash.update(&buffer[..got]);
        total += got;
    }
    assert_eq!(total, length, "length of /{name}");
    hash.finalize().into()
}

fn files_folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("origin-files");
    std::fs::create_dir_all(&folder).expect("a folder for the origin's files");
    let page = folder.join("index.html");
    if !page.exists() {
        std::fs::write(page, PAGE).expect("room for a page");
    }
    folder
}

/// Writes under another name first, so that a file with the right name is complete.
fn write_random(path: &Path, length: usize) -> Hash {
    let unfinished = path.with_extension("unfinished");
    let mut file = std::fs::File::create(&unfinished).expect("room for an origin file");
    let mut rng = Rng::new(length as u64);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    let mut left = length;
    while left > 0 {
        let now = left.min(chunk.len());
        rng.fill(&mut chunk[..now]);
        hash.update(&chunk[..now]);
        file.write_all(&chunk[..now]).expect("room for an origin file");
        left -= now;
    }
    std::fs::rename(unfinished, path).expect("a rename");
    hash.finalize().into()
}

fn configuration(port: u16, folder: &Path, files: &Path) -> String {
    let (folder, files) = (folder.display(), files.display());
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    format!(
        "{user}
        daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; sendfile on; keepalive_timeout 10s; default_type application/octet-stream;
            types {{ text/html html; }}
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            server {{
                listen 127.0.0.1:{port} backlog=2048; listen [::1]:{port} backlog=2048;
                root {files};
            }}
        }}
        "
    )
}
