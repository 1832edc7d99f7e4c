//! State that was written once, and must be understood for ever.

/// Asserts that a flow starts on the state in a directory (or a snapshot), and looks at what it
/// finds there. The directory is read, and not changed: keep one for every version of your state
/// types, and no change of them goes unnoticed.
///
/// ```no_run
/// use highwater::prelude::*;
/// use highwater::testing::{Pushed, assert_restores};
///
/// # fn flow() -> Flow {
/// #     let flow = Flow::new("rows");
/// #     flow.source("events", Pushed::<u32>::partitions(2)).sink("out", Stdout::json());
/// #     flow
/// # }
/// # fn test() -> Result<(), highwater::Error> {
/// assert_restores!(flow(), "tests/fixtures/counts-v1", entries { "counts": 3 }, |driver| {
///     assert_eq!(driver.state::<String, u64>("counts", &"ann".to_owned())?, Some(7));
///     // It goes on from there: new events find the old state.
///     driver.tick()?;
/// });
/// # Ok(())
/// # }
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __assert_restores {
    ($flow:expr, $dir:expr, entries { $($operator:literal: $entries:expr),* $(,)? } $(,)?) => {
        $crate::testing::assert_restores!(
            $flow, $dir, entries { $($operator: $entries),* }, |driver| {}
        )
    };
    (
        $flow:expr,
        $dir:expr,
        entries { $($operator:literal: $entries:expr),* $(,)? },
        |$driver:ident| $check:block $(,)?
    ) => {{
        let restored = $crate::testing::TestDriver::builder($flow).state($dir).start();
        assert!(restored.is_ok(), "the state is not restored: {:?}", restored.err());
        #[allow(unused_mut, unused_variables)]
        if let Ok(mut $driver) = restored {
            $(assert_eq!($driver.entries($operator), $entries, "entries of `{}`", $operator);)*
            $check
        }
    }};
}

pub use __assert_restores as assert_restores;
