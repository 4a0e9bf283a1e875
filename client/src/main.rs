//! `pipoctl`: manages a running socks5d over its admin channel.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pipoctl::modes::main(std::env::args_os().skip(1)))
}
