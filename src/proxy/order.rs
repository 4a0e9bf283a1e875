//! Sessions of a worker from the oldest to the youngest, which is the order of their ids: a chain through the
//! slots. So a list can be collected a few sessions at a time, in order, whatever begins and ends meanwhile.

use slab::Slab;

/// Places of the neighbours in the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    older: Place,
    newer: Place,
}

/// A place in the slab, or none. Half the size of an `Option<usize>`: every session has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u32);

impl Place {
    const NONE: Self = Self(u32::MAX);

    fn new(index: Option<usize>) -> Self {
        index.and_then(|index| u32::try_from(index).ok()).map_or(Self::NONE, Self)
    }

    fn index(self) -> Option<usize> {
        (self != Self::NONE).then(|| usize::try_from(self.0).ok()).flatten()
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::NONE
    }
}

/// What is chained.
pub(super) trait Chained {
    /// Its links.
    fn links(&mut self) -> &mut Links;
}

/// The ends of the chain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    oldest: Place,
    youngest: Place,
}

impl Order {
    /// The oldest one.
    pub(super) fn oldest(self) -> Option<usize> {
        self.oldest.index()
    }

    /// The next younger one.
    pub(super) fn after<T: Chained>(slots: &mut Slab<T>, index: usize) -> Option<usize> {
        slots.get_mut(index)?.links().newer.index()
    }

    /// Chains the one at `index`, which is the youngest.
    pub(super) fn append<T: Chained>(&mut self, slots: &mut Slab<T>, index: usize) {
        let place = Place::new(Some(index));
        if let Some(slot) = slots.get_mut(index) {
            *slot.links() = Links { older: self.youngest, newer: Place::NONE };
        }
        match self.youngest.index().and_then(|youngest| slots.get_mut(youngest)) {
            Some(youngest) => youngest.links().newer = place,
            None => self.oldest = place,
        }
        self.youngest = place;
    }

    /// Takes the one at `index`, which is about to go, out of the chain.
    pub(super) fn take_out<T: Chained>(&mut self, slots: &mut Slab<T>, index: usize) {
        let Some(links) = slots.get_mut(index).map(|slot| *slot.links()) else { return };
        match links.older.index().and_then(|older| slots.get_mut(older)) {
            Some(older) => older.links().newer = links.newer,
            None => self.oldest = links.newer,
        }
        match links.newer.index().and_then(|newer| slots.get_mut(newer)) {
            Some(newer) => newer.links().older = links.older,
            None => self.youngest = links.older,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Item {
        number: usize,
        links: Links,
    }

    impl Chained for Item {
        fn links(&mut self) -> &mut Links {
            &mut self.links
        }
    }

    proptest! {
        /// Against a vector: whatever comes and goes, the chain has the rest in the order in which it came.
        #[test]
        fn the_chain_has_what_is_there_in_the_order_in_which_it_came(
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..80)
        ) {
            let (mut slots, mut order, mut model) = (Slab::new(), Order::default(), Vec::new());
            for (number, (comes, which)) in steps.into_iter().enumerate() {
                if comes || model.is_empty() {
                    let index = slots.insert(Item { number, links: Links::default() });
                    order.append(&mut slots, index);
                    model.push((number, index));
                } else {
                    let (_, index) = model.remove(which.index(model.len()));
                    order.take_out(&mut slots, index);
                    slots.remove(index);
                }
                let mut found = Vec::new();
                let mut next = order.oldest();
                while let Some(index) = next {
                    found.push((slots[index].number, index));
                    next = Order::after(&mut slots, index);
                }
                prop_assert_eq!(&found, &model);
            }
        }
    }
}
