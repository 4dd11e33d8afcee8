//! One body, two tests.
//!
//! What the product promises it promises on both engines, so a test that names one of them needs a reason. The macro
//! makes the pair; whatever can be is in the function beneath it, where the compiler sees it once.

use std::process::Termination;

use crate::{Engine, TestDb};

/// Makes two tests of one body, `name::sqlite` and `name::postgres`, each with a fresh, migrated [`TestDb`].
///
/// The name is a sentence that says what holds. The body is an async closure, which `rustfmt` formats; it returns
/// nothing, or a result, and then says so:
///
/// ```
/// use tests::both_engines;
///
/// both_engines!(a_new_database_answers, async |db| {
///     let connection = db.connect().await.unwrap();
///     assert!(connection.ping().await.is_ok());
/// });
///
/// both_engines!(a_new_database_answers_or_says_why_not, async |db| -> anyhow::Result<()> {
///     Ok(db.connect().await?.ping().await?)
/// });
/// ```
#[macro_export]
macro_rules! both_engines {
    ($name:ident, $body:expr $(,)?) => {
        #[cfg(test)]
        mod $name {
            use super::*;

            fn on(engine: $crate::Engine) -> impl ::std::process::Termination {
                $crate::run(engine, $body)
            }

            #[test]
            fn sqlite() -> impl ::std::process::Termination {
                on($crate::Engine::Sqlite)
            }

            #[test]
            fn postgres() -> impl ::std::process::Termination {
                on($crate::Engine::Postgres)
            }
        }
    };
}

/// Runs `test` with a fresh, migrated database on `engine`, in a runtime of its own. [`both_engines!`] calls this; a
/// test of one engine may.
///
/// The runtime has two threads, as a server has several: what a test awaits and what it spawned really run at once.
///
/// # Panics
///
/// If there is no database to be had, and whenever `test` does.
pub fn run<T: Termination>(engine: Engine, test: impl AsyncFnOnce(TestDb) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system has threads for a runtime");
    runtime.block_on(async {
        let db = TestDb::new(engine).await.expect("a fresh database can be made");
        test(db).await
    })
}
