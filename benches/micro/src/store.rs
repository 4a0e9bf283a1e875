//! The check of a password that was right before in this run of the daemon.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use socks5d::settings::{Role, UserSpec};
use socks5d::store::{Check, Store, StoreOptions, Verdict};

use crate::{Work, repeated};

/// Users besides the one who logs in: the directory is not empty.
const OTHERS_COUNT: usize = 100;
const NAME: &[u8] = b"alice";
const PASSWORD: &[u8] = b"correct horse 42";
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

pub(crate) fn password_check_warm() -> Work {
    let spec = |name: Vec<u8>| UserSpec {
        name,
        password: PASSWORD.to_vec(),
        proxy: true,
        admin: false,
        role: Role::User,
    };
    let mut users: Vec<UserSpec> =
        (0..OTHERS_COUNT).map(|place| spec(format!("user-{place}").into_bytes())).collect();
    users.push(spec(NAME.to_vec()));
    let options = StoreOptions { hash_threads: 1, ..StoreOptions::default() };
    let store = Store::start(users, options).expect("these users are well formed");
    let now = Instant::now();

    // The first check may have to hash; whoever is known after it is checked by digest.
    let (sender, verdict) = mpsc::channel();
    let first = store.check(SOURCE, NAME, PASSWORD, now, move |verdict| {
        // The receiver lives until the verdict is there.
        let _ = sender.send(verdict);
    });
    if matches!(first, Check::Pending) {
        let verdict = verdict.recv_timeout(Duration::from_secs(30)).expect("hashing takes milliseconds");
        assert!(matches!(verdict, Verdict::Accepted(_)), "the password is right: {verdict:?}");
    }
    let check = move || store.check(black_box(SOURCE), black_box(NAME), black_box(PASSWORD), now, |_| {});
    let warm = check();
    assert!(matches!(warm, Check::Accepted(_)), "accepted at once: {warm:?}");
    repeated(check)
}
