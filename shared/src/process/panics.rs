//! What is said of a panic. Its own words may quote what the code had in hand: slicing a text in the middle of a letter,
//! or unwrapping an error, shows the text. That may be a token.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{PanicHookInfo, set_hook};
use std::sync::atomic::{AtomicBool, Ordering};

/// Stands in place of words that were put together while the process ran.
const LEFT_OUT: &str = "its words are left out, because they may quote a secret";

/// Whether no panic is worth a word any more.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// The work is over, and its exit code is known. A runtime that ends drops its tasks in any order, and one that waits for
/// another which was dropped already may panic (`async-rs` does, below `lapin`): that means nothing, and would wake somebody.
pub(super) fn work_is_over() {
    IS_OVER.store(true, Ordering::Relaxed);
}

/// From now on a panic anywhere in the process is told by its place, and by its words only where they stand so in the
/// program.
pub(super) fn tell_without_values() {
    set_hook(Box::new(tell));
}

#[expect(clippy::print_stderr, reason = "where logs are not running yet, or not any more")]
fn tell(panic: &PanicHookInfo<'_>) {
    if IS_OVER.load(Ordering::Relaxed) {
        return;
    }
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let words = words(panic.payload());
    // Only where RUST_BACKTRACE asks for it. It names functions and lines, and no values.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    if tracing::dispatcher::has_been_set() {
        tracing::error!(location, backtrace, "panicked: {words}");
    } else {
        eprintln!(
            "panicked at {location}: {words}{}",
            backtrace.map(|trace| format!("\n{trace}")).unwrap_or_default()
        );
    }
}

/// A text of the program is `'static`; one that holds a value is made when it panics.
fn words(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or(LEFT_OUT)
}

#[cfg(test)]
mod tests {
    use std::panic::{RefUnwindSafe, catch_unwind, panic_any};

    use super::*;

    type Action<'a> = &'a (dyn Fn() + RefUnwindSafe);

    #[test]
    fn words_that_hold_a_value_are_left_out() {
        let token = String::from("s3cret-tökén");
        let cases: [(Action<'_>, &str); 6] = [
            (&|| panic!("as it stands in the program"), "as it stands in the program"),
            (&|| assert_eq!("".chars().next().unwrap(), 'a'), "called `Option::unwrap()` on a `None` value"),
            (&|| panic!("with {token}"), LEFT_OUT),
            (&|| assert_eq!(&token[..9], "s3cret"), LEFT_OUT),
            (&|| assert_eq!(token.parse::<u8>().map_err(|_| token.clone()).unwrap(), 1), LEFT_OUT),
            (&|| panic_any(token.clone()), LEFT_OUT),
        ];
        for (action, expected) in cases {
            assert_eq!(words(catch_unwind(action).unwrap_err().as_ref()), expected);
        }
    }
}
