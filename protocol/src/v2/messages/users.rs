//! Users. Passwords never travel: the client makes the verifier.

use super::{Salt, part};
use crate::Name;
use crate::v2::body::message;
use crate::v2::values::{Doors, Role};
use crate::v2::{Key, Octets};

message! {
    /// What a server stores instead of a password (RFC 5802 section 3): it can check a proof, not make one.
    pub struct Verifier "verifier" {
        /// Random octets, made anew for each password.
        1 salt: Salt,
        /// Iterations of PBKDF2, the number that HELLO gave.
        2 iterations: u32,
        /// StoredKey.
        3 stored_key: Key,
        /// ServerKey.
        4 server_key: Key,
    }
}

message! {
    /// Asks for users.
    pub struct UserListRequest "user-list-request" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// Only this user.
        1 user: Option<Name>,
        /// Only names that start so.
        2 prefix: Option<Octets<0, 255>>,
        /// At most so many rows.
        3 limit: Option<u32>,
    }
}

message! {
    /// A user with its statistics. The user anonymous stands for all who did not authenticate.
    pub struct UserRow "user-row" {
        /// Its name.
        1 user: Name,
        /// What it may do on the admin channel.
        2 role: Role,
        /// Where it may enter.
        3 doors: Doors,
        /// Whether it may enter at all.
        4 enabled: bool,
        /// Its sessions now.
        5 sessions_count: u64,
        /// Its sessions so far.
        6 sessions_total_count: u64,
        /// Payload from it to origins.
        7 bytes_up: u64,
        /// Payload from origins to it.
        8 bytes_down: u64,
        /// When its last session began.
        9 last_seen_unix_ms: Option<u64>,
    }
}

part! {
    /// Part of the list of users, by name.
    pub struct UserPart "user-part" of UserRow;
}

message! {
    /// Adds a user.
    pub struct UserAdd "user-add" {
        /// Its name.
        1 user: Name,
        /// Made from its password by the client.
        2 verifier: Verifier,
        /// What it may do on the admin channel.
        3 role: Role,
        /// Where it may enter: the proxy only when absent, both for a role above user.
        4 doors: Option<Doors>,
    }
}

message! {
    /// Removes a user and ends its sessions.
    pub struct UserRemove "user-remove" {
        /// Its name.
        1 user: Name,
    }
}

message! {
    /// Gives a user a new password and ends its sessions.
    pub struct UserPassword "user-password" {
        /// Its name.
        1 user: Name,
        /// Made from the new password by the client.
        2 verifier: Verifier,
    }
}

message! {
    /// Changes what a user may do.
    pub struct UserRole "user-role" {
        /// Its name.
        1 user: Name,
        /// What it may do on the admin channel from now on.
        2 role: Role,
        /// Where it may enter from now on; unchanged when absent.
        3 doors: Option<Doors>,
    }
}
