//! Sample data: bytes that are cheap to make, different everywhere and the same in every run.

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

/// `length` bytes determined by `seed`; no two pages of it are alike.
#[must_use]
pub fn noise(seed: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    SmallRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes.into()
}

/// A lake of many objects under nested prefixes.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Key and bytes, in byte order of the keys.
    pub objects: Vec<(String, Bytes)>,
}

impl Sample {
    /// `count` objects under up to four levels of prefixes: of a hundred, 99 have up to 32 KiB and one up to `largest` bytes.
    #[must_use]
    pub fn lake(seed: u64, count: usize, largest: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut objects: Vec<_> = (0..count)
            .map(|n| {
                let depth = random.random_range(0..=4);
                let mut key = String::new();
                for _ in 0..depth {
                    key.push_str(&format!("part={}/", random.random_range(0..6)));
                }
                key.push_str(&format!("file-{n:05}.bin"));
                let length = if n % 100 == 0 {
                    random.random_range(0..=largest)
                } else {
                    random.random_range(0..=32 << 10).min(largest)
                };
                (key, noise(seed ^ n as u64, length))
            })
            .collect();
        objects.sort_by(|a, b| a.0.cmp(&b.0));
        Self { objects }
    }

    /// Bytes of all objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|(_, body)| body.len() as u64).sum()
    }
}
