//! What is kept in the cells: a counter, with more or less beside it.

/// A value that counts.
pub(crate) trait Payload: Copy + Send + Sync + 'static {
    /// How its cases are called.
    const NAME: &'static str;

    /// A payload that counts from zero.
    fn zero() -> Self;

    /// Counts one further, in place.
    fn bump(&mut self);

    /// The count; `None` if this is half of one value and half of another.
    fn count(&self) -> Option<u64>;

    /// Looks at all of it.
    fn look(&self) -> u64;

    /// The next one: a whole copy.
    #[inline]
    fn next(&self) -> Self {
        let mut next = *self;
        next.bump();
        next
    }
}

impl Payload for u64 {
    const NAME: &'static str = "u64";

    fn zero() -> Self {
        0
    }

    #[inline]
    fn bump(&mut self) {
        *self += 1;
    }

    fn count(&self) -> Option<u64> {
        Some(*self)
    }

    #[inline]
    fn look(&self) -> u64 {
        *self
    }
}

/// The first word and the last one count, so that a torn value shows.
impl<const N: usize> Payload for [u64; N] {
    const NAME: &'static str = match N {
        16 => "128 B",
        128 => "1 KiB",
        _ => panic!("give this size a name"),
    };

    fn zero() -> Self {
        [0; N]
    }

    #[inline]
    fn bump(&mut self) {
        self[0] += 1;
        self[N - 1] += 1;
    }

    fn count(&self) -> Option<u64> {
        (self[0] == self[N - 1]).then_some(self[0])
    }

    #[inline]
    fn look(&self) -> u64 {
        self.iter().fold(0, |sum, word| sum ^ word)
    }
}
