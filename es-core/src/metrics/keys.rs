//! A cache of the keys of metrics whose labels are constants, such as those of commands. Creating a key allocates, and
//! hashes all its texts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use ::metrics::Key;

use super::Metric;

/// The maximum number of labels of a cached key.
const MAX_LABELS: usize = 3;

/// The addresses and lengths of the name and the labels. Constants are never freed, so an address identifies a text.
type Address = [(usize, usize); 1 + MAX_LABELS];

thread_local! {
    static KEYS: RefCell<HashMap<Address, Key, BuildHasherDefault<AddressHasher>>> = RefCell::default();
}

/// Calls `code` with the key of `metric` and these values of its labels.
pub(super) fn with_key<const N: usize, T>(
    metric: &Metric,
    labels: [&'static str; N],
    code: impl Fn(&Key) -> T,
) -> T {
    const { assert!(N <= MAX_LABELS) };
    let mut address = Address::default();
    address[0] = place(metric.name);
    for (at, label) in address[1..].iter_mut().zip(labels) {
        *at = place(label);
    }
    // There is no cache while the thread ends.
    if let Ok(Some(done)) = KEYS.try_with(|keys| keys.borrow().get(&address).map(&code)) {
        return done;
    }
    let key = metric.key(labels.map(Into::into));
    let done = code(&key);
    let _ = KEYS.try_with(|keys| keys.borrow_mut().insert(address, key));
    done
}

fn place(text: &'static str) -> (usize, usize) {
    (text.as_ptr().addr(), text.len())
}

/// A hasher for addresses, which differ in few bits.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0.rotate_left(5) ^ number as u64).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}
