//! One value that threads share: what the contenders have in common.
//!
//! What is shared, how a thread reads it, and how a thread updates it are three traits, because most
//! libraries have several ways to read one thing. Each contender is used as its documentation
//! recommends; where there was a choice, its file says which.

pub(crate) mod arcs;
pub(crate) mod locks;
pub(crate) mod others;
pub(crate) mod ours;

use crate::payload::Payload;
use crate::runner::{Gate, together};
use std::time::Duration;

/// Reads that [`Read::read_many`] makes.
pub(crate) const MANY: u64 = 64;

/// Updates made to check a contender.
pub(crate) const CHECKED: u64 = 10_000;

/// Something that threads share.
pub(crate) trait Shared: Send + Sync + 'static {
    type Payload: Payload;

    fn new(value: Self::Payload) -> Self;

    /// What it holds in the end, and its version, if it has one.
    fn end(&self) -> (Self::Payload, Option<u64>);
}

/// A way to read it.
pub(crate) trait Read<S: Shared>: 'static {
    const NAME: &'static str;

    /// What a thread that reads keeps.
    type Reader<'a>
    where
        S: 'a;

    fn reader(shared: &S) -> Self::Reader<'_>;

    /// Shows `look` the current value.
    fn read(reader: &mut Self::Reader<'_>, look: impl FnMut(&S::Payload));

    /// [`MANY`] reads in a row.
    #[inline]
    fn read_many(reader: &mut Self::Reader<'_>, mut look: impl FnMut(&S::Payload)) {
        for _ in 0..MANY {
            Self::read(reader, &mut look);
        }
    }
}

/// A way to count one further.
pub(crate) trait Update<S: Shared>: 'static {
    const NAME: &'static str;

    /// What a thread that updates keeps.
    type Writer<'a>
    where
        S: 'a;

    fn writer(shared: &S) -> Self::Writer<'_>;

    /// Updates once, and returns how many attempts that took.
    fn update(writer: &mut Self::Writer<'_>) -> u64;
}

/// Whether `shared` is what so many updates make of it.
pub(crate) fn adds_up<S: Shared>(shared: &S, updates: u64) -> Result<(), String> {
    let (value, version) = shared.end();
    let count = value.count().ok_or("half a value was left")?;
    if count != updates {
        return Err(format!("{updates} updates left a count of {count}"));
    }
    match version {
        Some(version) if version != updates => {
            Err(format!("{updates} updates left version {version}"))
        }
        _ => Ok(()),
    }
}

/// Checks updates: `threads` of them, none of whose updates is lost.
pub(crate) fn check_updates<S: Shared, U: Update<S>>(threads: usize) -> Result<(), String> {
    let shared = S::new(S::Payload::zero());
    let worker = |_: usize| {
        |gate: &Gate| {
            let mut writer = U::writer(&shared);
            gate.pass();
            (0..CHECKED).map(|_| U::update(&mut writer)).sum::<u64>()
        }
    };
    let (attempts, _) = together(Duration::ZERO, (0..threads).map(worker).collect());
    let updates = CHECKED * threads as u64;
    if attempts.iter().sum::<u64>() < updates {
        return Err("an update took no attempt".to_owned());
    }
    adds_up(&shared, updates)
}

/// Checks reads beside a writer: values are whole, never go back, and end with the last one.
pub(crate) fn check_reads<S: Shared, R: Read<S>, U: Update<S>>() -> Result<(), String> {
    let shared = S::new(S::Payload::zero());
    let write = |gate: &Gate| {
        let mut writer = U::writer(&shared);
        gate.pass();
        for _ in 0..CHECKED {
            U::update(&mut writer);
        }
        Ok(())
    };
    let read = |gate: &Gate| {
        let mut reader = R::reader(&shared);
        gate.pass();
        let (mut last, mut wrong) = (0, None);
        while last < CHECKED && wrong.is_none() {
            R::read_many(&mut reader, |value| match value.count() {
                Some(count) if count >= last => last = count,
                Some(count) => wrong = Some(format!("{count} was read after {last}")),
                None => wrong = Some("half a value was read".to_owned()),
            });
        }
        wrong.map_or(Ok(()), Err)
    };
    let workers: Vec<Worker<'_>> = vec![Box::new(write), Box::new(read)];
    let (results, _) = together(Duration::ZERO, workers);
    results.into_iter().collect::<Result<(), String>>()?;
    adds_up(&shared, CHECKED)
}

type Worker<'a> = Box<dyn FnOnce(&Gate) -> Result<(), String> + Send + 'a>;
