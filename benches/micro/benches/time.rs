//! What the operations take in time: `cargo bench --package micro`, or `-- cache` for those with that word in
//! their name. For the eye: absolute times mean something on a quiet machine only. About a nanosecond of each
//! figure is the call of the boxed operation.

use divan::Bencher;
use micro::{OPERATIONS, Operation};

fn main() {
    divan::main();
}

#[divan::bench(args = OPERATIONS.iter().map(Named))]
fn operation(bencher: Bencher<'_, '_>, operation: &Named) {
    let mut work = (operation.0.prepare)();
    bencher.bench_local(|| work(1));
}

/// Shown by its name.
struct Named(&'static Operation);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}
