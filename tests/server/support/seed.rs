//! Chance that can be replayed.

use fastrand::Rng;

/// A generator whose seed is printed; a failing test shows it.
pub(crate) fn rng() -> Rng {
    let seed = match std::env::var("CORELANE_TEST_SEED") {
        Ok(seed) => seed.parse().expect("CORELANE_TEST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("CORELANE_TEST_SEED={seed}");
    Rng::with_seed(seed)
}
