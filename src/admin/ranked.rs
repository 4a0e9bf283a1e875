//! The first so many of many rows, in an order: a heap that never holds more. Pure.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::IpAddr;

use crate::ids::SessionId;
use crate::proxy::live::Row;
use crate::proxy::session::Target;

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Id,
    Age,
    Bytes,
    User,
    Destination,
    Idle,
}

/// Which end comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

/// Rows in order, the last one at hand.
#[derive(Debug)]
pub(super) struct Ranked {
    by: By,
    direction: Direction,
    pub(super) rows_max: usize,
    heap: BinaryHeap<Entry>,
    /// Rows that found no place.
    pub(super) dropped_count: u64,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    row: Row,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Up(Value, SessionId),
    Down(Reverse<Value>, SessionId),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Nothing,
    Number(u128),
    Text(Box<[u8]>),
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl Ranked {
    /// None yet, and never more than `rows_max`.
    pub(super) fn new(by: By, direction: Direction, rows_max: usize) -> Self {
        Self { by, direction, rows_max, heap: BinaryHeap::new(), dropped_count: 0 }
    }

    /// Takes a row in; the last one makes room.
    pub(super) fn push(&mut self, row: Row) {
        let (value, id) = (value_of(self.by, &row), row.id);
        let key = match self.direction {
            Direction::Ascending => Key::Up(value, id),
            Direction::Descending => Key::Down(Reverse(value), id),
        };
        if self.heap.len() < self.rows_max {
            return self.heap.push(Entry { key, row });
        }
        self.dropped_count += 1;
        if let Some(mut last) = self.heap.peek_mut()
            && key < last.key
        {
            *last = Entry { key, row };
        }
    }

    /// The rows, the first one first.
    pub(super) fn into_rows(self) -> impl Iterator<Item = Row> + Send {
        self.heap.into_sorted_vec().into_iter().map(|entry| entry.row)
    }
}

fn value_of(by: By, row: &Row) -> Value {
    match by {
        By::Id => Value::Number(row.id.as_u64().into()),
        By::Age => Value::Number(row.age.as_nanos()),
        By::Bytes => Value::Number(u128::from(row.bytes_up) + u128::from(row.bytes_down)),
        By::Idle => Value::Number(row.idle.as_nanos()),
        By::User => Value::Text(row.user.name().as_octets().into()),
        By::Destination => match &row.target {
            Target::Unknown => Value::Nothing,
            // Addresses before names, and those of one kind beside each other.
            Target::Address(ip) => Value::Number(match ip.to_canonical() {
                IpAddr::V4(ip) => ip.to_bits().into(),
                IpAddr::V6(ip) => ip.to_bits(),
            }),
            Target::Name(name) => Value::Text(name.to_ascii_lowercase().into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::proxy::session::Stage;
    use crate::store::{Store, StoreOptions, User};

    fn row(user: &Arc<User>, id: u64, bytes: u64) -> Row {
        Row {
            id: SessionId::from_u64(id),
            user: Arc::clone(user),
            client: "192.0.2.1:5".parse().unwrap(),
            target: Target::Unknown,
            port: 0,
            resolved: None,
            stage: Stage::Relay,
            age: Duration::from_secs(bytes),
            idle: Duration::ZERO,
            bytes_up: bytes,
            bytes_down: 0,
        }
    }

    fn anonymous() -> Arc<User> {
        Store::start(Vec::new(), StoreOptions::default()).unwrap().directory().anonymous()
    }

    proptest! {
        #[test]
        fn it_gives_what_sorting_all_and_cutting_gives(
            values in prop::collection::vec(0_u64..20, 0..60),
            rows_max in 0_usize..30,
            descends in any::<bool>(),
        ) {
            let user = anonymous();
            let direction = if descends { Direction::Descending } else { Direction::Ascending };
            let mut ranked = Ranked::new(By::Bytes, direction, rows_max);
            let mut expected: Vec<_> = (0_u64..).zip(values.iter().copied()).collect();
            for (id, bytes) in &expected {
                ranked.push(row(&user, *id, *bytes));
            }
            if descends {
                expected.sort_by_key(|(id, bytes)| (Reverse(*bytes), *id));
            } else {
                expected.sort_by_key(|(id, bytes)| (*bytes, *id));
            }
            let left_out = expected.len().saturating_sub(rows_max);
            expected.truncate(rows_max);
            prop_assert_eq!(ranked.dropped_count, left_out as u64);
            let found: Vec<_> = ranked.into_rows().map(|row| (row.id.as_u64(), row.bytes_up)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn each_order_looks_at_its_own_column() {
        let user = anonymous();
        let (mut first, mut second) = (row(&user, 1, 10), row(&user, 2, 5));
        first.idle = Duration::from_secs(1);
        second.idle = Duration::from_secs(2);
        first.target = Target::Name(b"b.example"[..].into());
        second.target = Target::Name(b"A.example"[..].into());
        let cases = [
            (By::Id, [1, 2]),
            (By::Age, [2, 1]),
            (By::Bytes, [2, 1]),
            (By::Idle, [1, 2]),
            (By::Destination, [2, 1]),
            (By::User, [1, 2]),
        ];
        for (by, expected) in cases {
            let mut ranked = Ranked::new(by, Direction::Ascending, 5);
            ranked.push(first.clone());
            ranked.push(second.clone());
            let found: Vec<_> = ranked.into_rows().map(|row| row.id.as_u64()).collect();
            assert_eq!(found, expected, "{by:?}");
        }
    }
}
