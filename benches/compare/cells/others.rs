//! What else shows several threads one value: tokio's `watch`, and left-right.
//!
//! A reader of either has a receiver or read handle of its own. left-right has one writer, which
//! publishes after each update, as ours does; several would need a lock around it, so it is left
//! out where there are several.

use super::{Read, Shared, Update};
use crate::payload::Payload;
use left_right::{Absorb, ReadHandle, ReadHandleFactory, WriteHandle};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

impl<P: Payload> Shared for watch::Sender<P> {
    type Payload = P;

    fn new(value: P) -> Self {
        watch::Sender::new(value)
    }

    fn end(&self) -> (P, Option<u64>) {
        (*self.borrow(), None)
    }
}

/// tokio's `watch`: `borrow` and `send_modify`.
pub(crate) struct Watching;

impl<P: Payload> Read<watch::Sender<P>> for Watching {
    const NAME: &'static str = "tokio watch borrow";
    type Reader<'a> = watch::Receiver<P>;

    fn reader(sender: &watch::Sender<P>) -> watch::Receiver<P> {
        sender.subscribe()
    }

    #[inline]
    fn read(receiver: &mut watch::Receiver<P>, mut look: impl FnMut(&P)) {
        look(&receiver.borrow());
    }
}

impl<P: Payload> Update<watch::Sender<P>> for Watching {
    const NAME: &'static str = "tokio watch send_modify";
    type Writer<'a> = &'a watch::Sender<P>;

    fn writer(sender: &watch::Sender<P>) -> &watch::Sender<P> {
        sender
    }

    #[inline]
    fn update(sender: &mut &watch::Sender<P>) -> u64 {
        sender.send_modify(P::bump);
        1
    }
}

/// Both copies of the value behind left-right's handles.
pub(crate) struct LeftRight<P: Payload> {
    writer: Mutex<WriteHandle<Twin<P>, Bump>>,
    readers: ReadHandleFactory<Twin<P>>,
}

/// One of the two copies.
#[derive(Clone)]
pub(crate) struct Twin<P>(P);

/// What is done to both, one after the other.
pub(crate) struct Bump;

impl<P: Payload> Absorb<Bump> for Twin<P> {
    #[inline]
    fn absorb_first(&mut self, _: &mut Bump, _: &Self) {
        self.0.bump();
    }

    fn sync_with(&mut self, first: &Self) {
        self.0 = first.0;
    }
}

impl<P: Payload> Shared for LeftRight<P> {
    type Payload = P;

    fn new(value: P) -> Self {
        let (mut writer, reader) = left_right::new_from_empty::<_, Bump>(Twin(value));
        // Without a first publish nothing is there to be read.
        writer.publish();
        LeftRight {
            readers: reader.factory(),
            writer: Mutex::new(writer),
        }
    }

    fn end(&self) -> (P, Option<u64>) {
        let handle = self.readers.handle();
        let twin = handle.enter().expect("the writer is there");
        (twin.0, None)
    }
}

/// left-right: `enter`, and `append` with `publish`.
pub(crate) struct Publishing;

impl<P: Payload> Read<LeftRight<P>> for Publishing {
    const NAME: &'static str = "left-right enter";
    type Reader<'a> = ReadHandle<Twin<P>>;

    fn reader(cell: &LeftRight<P>) -> ReadHandle<Twin<P>> {
        cell.readers.handle()
    }

    #[inline]
    fn read(handle: &mut ReadHandle<Twin<P>>, mut look: impl FnMut(&P)) {
        look(&handle.enter().expect("the writer is there").0);
    }
}

impl<P: Payload> Update<LeftRight<P>> for Publishing {
    const NAME: &'static str = "left-right publish";
    /// Locked once, not for each update.
    type Writer<'a> = MutexGuard<'a, WriteHandle<Twin<P>, Bump>>;

    fn writer(cell: &LeftRight<P>) -> Self::Writer<'_> {
        cell.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn update(writer: &mut Self::Writer<'_>) -> u64 {
        writer.append(Bump);
        writer.publish();
        1
    }
}
