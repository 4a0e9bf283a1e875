//! A browser: headless Chromium loads a page by name through the proxy. Heavy, so only `./test --all` runs it.

use std::process::Command;

use crate::harness::dns_chain::DnsChain;
use crate::harness::machine::program;
use crate::harness::nginx::Nginx;
use crate::harness::{Daemon, TempDir, exclusive};

#[test]
#[ignore = "needs chromium: ./test --all installs and runs it"]
fn chromium_loads_a_page_by_name() {
    let _alone = exclusive();
    let nginx = Nginx::start();
    let chain = DnsChain::start();
    let relay_port = chain.relay_address().port().to_string();
    let daemon = Daemon::start(&["--doh-ip", "127.0.0.1", "--doh-port", &relay_port, "--log-format", "tab"]);
    let folder = TempDir::new();
    let output = Command::new("/usr/bin/timeout")
        .args(["--kill-after=5", "90"])
        .arg(program("chromium", "chromium"))
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .arg(format!("--proxy-server=socks5://{}", daemon.address()))
        // Chromium goes around a proxy for loopback unless told not to.
        .arg("--proxy-bypass-list=<-loopback>")
        .arg("--dump-dom")
        .arg(format!("http://v4.chain.test:{}/", nginx.port()))
        .output()
        .unwrap();
    let page = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(page.contains("the page of the origin"), "{page}\n{said}");
    let log = daemon.stdout().wait_for("v4.chain.test");
    assert!(log.ends_with("\t0"), "{log}");
}
