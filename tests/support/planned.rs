//! Panics that are planned, and make no noise.

use std::panic::{self, PanicHookInfo, panic_any};
use std::sync::Once;

/// What planned panics say. They are not printed.
pub(crate) const PLANNED: &str = "planned";

pub(crate) fn plan<R>() -> R {
    panic_any(PLANNED)
}

/// From now on. What is no text is planned as well.
pub(crate) fn silence_what_is_planned() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or(payload.downcast_ref().map(String::as_str));
            if text.is_some_and(|text| text != PLANNED) {
                print(info);
            }
        }));
    });
}
