//! One listener in the epoll of every worker: what mio has no call for.

#![expect(unsafe_code, reason = "mio gives out its epoll descriptor only as a number")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::event::epoll;

/// Adds a listener to a poll's epoll instance, level triggered, so that one of the waiting workers is woken
/// for a connection (EPOLLEXCLUSIVE). Its events bear `token`.
pub fn share_listener(poll: &mio::Poll, listener: &impl AsFd, token: mio::Token) -> io::Result<()> {
    let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
    let data = epoll::EventData::new_u64(token.0 as u64);
    Ok(epoll::add(descriptor_of(poll), listener, data, flags)?)
}

/// Takes a listener out again.
pub fn unshare_listener(poll: &mio::Poll, listener: &impl AsFd) -> io::Result<()> {
    Ok(epoll::delete(descriptor_of(poll), listener)?)
}

fn descriptor_of(poll: &mio::Poll) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `poll` is, which the result's lifetime is bound to.
    unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn a_shared_listener_wakes_until_it_is_taken_out() {
        let mut poll = mio::Poll::new().unwrap();
        let mut events = mio::Events::with_capacity(8);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        share_listener(&poll, &listener, mio::Token(7)).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
            let event = events.iter().next().expect("level triggered");
            assert_eq!(event.token(), mio::Token(7));
            assert!(event.is_readable());
        }
        unshare_listener(&poll, &listener).unwrap();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }
}
