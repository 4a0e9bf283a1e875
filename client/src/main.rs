//! `pipoctl`: manages a running socks5d over its admin channel.

fn main() {}
