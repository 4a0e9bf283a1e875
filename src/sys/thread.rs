//! What a thread asks of the kernel's scheduler.

#![expect(unsafe_code, reason = "attributes of scheduling have no safe wrapper among our dependencies")]

use std::io;
use std::time::Duration;

/// `sizeof(struct sched_attr)`, version 0.
const ATTRIBUTES_BYTES: u32 = 48;
const _: () = assert!(size_of::<libc::sched_attr>() == ATTRIBUTES_BYTES as usize);

/// Asks for turns of this length on a processor, for the calling thread (sched_setattr(2), `sched_runtime`; Linux
/// 6.12, earlier ones take no notice).
///
/// It does not get more of the processor by that, but comes sooner, and has to go sooner. A thread that has a
/// policy of its own (SCHED_FIFO, SCHED_IDLE and so on) keeps it, and an ordinary one keeps its nice value.
///
/// # Errors
/// What the kernel says; a sandbox may forbid to ask.
pub fn ask_for_turns_of(length: Duration) -> io::Result<()> {
    schedule(length, None)
}

/// Lets others have the processor first, for the calling thread, which gets as much of it in the long run: woken, it
/// interrupts nobody (SCHED_BATCH, sched(7)), and with turns of `length` it is interrupted by all whose turns are
/// shorter. Who keeps what is as above.
///
/// # Errors
/// What the kernel says; a sandbox may forbid to ask.
pub fn be_patient(length: Duration) -> io::Result<()> {
    schedule(length, Some(libc::SCHED_BATCH))
}

/// Changes turns and, where one is named, the policy of the calling thread, if it is an ordinary one.
fn schedule(length: Duration, policy: Option<libc::c_int>) -> io::Result<()> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let this_thread: libc::pid_t = 0;
    let no_flags: libc::c_uint = 0;
    // SAFETY: the kernel writes at most ATTRIBUTES_BYTES bytes, and `attributes` has so many.
    let got = unsafe {
        libc::syscall(libc::SYS_sched_getattr, this_thread, &raw mut attributes, ATTRIBUTES_BYTES, no_flags)
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    if !matches!(i32::try_from(attributes.sched_policy), Ok(libc::SCHED_OTHER | libc::SCHED_BATCH)) {
        return Ok(());
    }
    attributes.size = ATTRIBUTES_BYTES;
    attributes.sched_runtime = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    if let Some(policy) = policy {
        attributes.sched_policy = u32::try_from(policy).unwrap_or_default();
    }
    // SAFETY: the kernel reads ATTRIBUTES_BYTES bytes, and `attributes` has so many.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, no_flags) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: has no preconditions; zero is the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_thread_keeps_its_nice_value() {
        std::thread::spawn(|| {
            let nice = rustix::process::nice(7).unwrap();
            ask_for_turns_of(Duration::from_micros(100)).unwrap();
            assert_eq!(rustix::process::nice(0).unwrap(), nice);
            be_patient(Duration::from_millis(20)).unwrap();
            assert_eq!(rustix::process::nice(0).unwrap(), nice);
            assert_eq!(policy(), libc::SCHED_BATCH);
        })
        .join()
        .unwrap();
    }
}
