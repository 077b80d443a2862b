//! What is committed: a number, in one shape or another, that notices when it is not whole.

use std::array;

pub(crate) trait Payload: Send + Sync + 'static {
    /// A value of this number.
    fn make(number: u64) -> Self;

    /// The number of a whole value. Panics otherwise.
    fn number(&self) -> u64;
}

impl Payload for u64 {
    fn make(number: u64) -> Self {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

/// The number at a place of a large value: different everywhere, so that pieces of two values don't
/// fit together.
fn at(number: u64, place: usize) -> u64 {
    number.rotate_left(place as u32) ^ place as u64
}

#[track_caller]
fn assert_whole(whole: bool) {
    assert!(whole, "broken law: somebody saw pieces of different values");
}

impl Payload for [u64; 16] {
    fn make(number: u64) -> Self {
        array::from_fn(|place| at(number, place))
    }

    fn number(&self) -> u64 {
        let number = self[0];
        assert_whole((0..16).all(|place| self[place] == at(number, place)));
        number
    }
}

impl Payload for [u8; 1024] {
    fn make(number: u64) -> Self {
        let mut bytes = [0; 1024];
        for (place, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&at(number, place).to_le_bytes());
        }
        bytes
    }

    fn number(&self) -> u64 {
        let read = |place: usize| {
            let chunk = array::from_fn(|byte| self[8 * place + byte]);
            u64::from_le_bytes(chunk)
        };
        let number = read(0);
        assert_whole((0..128).all(|place| read(place) == at(number, place)));
        number
    }
}

impl Payload for String {
    fn make(number: u64) -> Self {
        format!("{number:x}/{:x}", !number)
    }

    fn number(&self) -> u64 {
        let read = |hex| u64::from_str_radix(hex, 16).ok();
        let halves = self.split_once('/').map(|(a, b)| (read(a), read(b)));
        match halves {
            Some((Some(number), Some(rest))) if rest == !number => number,
            _ => panic!("broken law: somebody saw {self:?}, which nobody wrote"),
        }
    }
}
