//! Measures writing and reading pages through the store against plain files in the same directory, page cache warm.
//!
//! `cargo run --release -p headpond-store --example throughput -- [DIR] [MIB]`: a directory on the disk in question (default: the
//! temporary one) and the size of the content (default 512). Both sides take turns; medians of the rounds are compared.
#![expect(clippy::print_stdout, reason = "the result of an example")]

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use headpond_store::{Content, DirConfig, PageStore, StoreConfig};
use headpond_types::{ContentId, PAGE_SIZE};
use rand::{RngExt, SeedableRng, rngs::StdRng};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const ROUNDS: usize = 7;
/// What a network read brings at once.
const CHUNK: usize = 256 << 10;
const PAGE: usize = 1 << 20;
const SMALL: usize = 4096;
const SMALL_READS: u64 = 50_000;

struct Bench {
    store: PageStore,
    content: Arc<Content>,
    plain: PathBuf,
    pages: u64,
    page: Vec<u8>,
}

impl Bench {
    fn write_plain(&mut self) -> Result {
        // A new file each time, as the store has: writing over an old one is cheaper.
        drop(std::fs::remove_file(&self.plain));
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&self.plain)?;
        file.set_len(self.pages * PAGE_SIZE)?;
        for number in 0..self.pages {
            for (part, chunk) in (0..).zip(self.page.chunks(CHUNK)) {
                file.write_all_at(chunk, number * PAGE_SIZE + part * CHUNK as u64)?;
            }
        }
        Ok(())
    }

    fn write_store(&mut self) -> Result {
        self.store.free(self.content.id());
        self.content = self.store.content(self.content.id(), self.pages * PAGE_SIZE)?;
        for number in 0..self.pages {
            let mut writer = self.content.page_writer(number)?;
            for chunk in self.page.chunks(CHUNK) {
                writer.write(chunk)?;
            }
            writer.commit()?;
        }
        Ok(())
    }

    fn read_plain(&mut self) -> Result {
        let file = File::open(&self.plain)?;
        for number in 0..self.pages {
            let mut page = vec![0; PAGE];
            file.read_exact_at(&mut page, number * PAGE_SIZE)?;
            std::hint::black_box(page);
        }
        Ok(())
    }

    fn read_store(&mut self) -> Result {
        for number in 0..self.pages {
            std::hint::black_box(self.content.read(number * PAGE_SIZE..(number + 1) * PAGE_SIZE)?);
        }
        Ok(())
    }

    fn random_plain(&mut self) -> Result {
        let file = File::open(&self.plain)?;
        for at in self.offsets() {
            let mut bytes = vec![0; SMALL];
            file.read_exact_at(&mut bytes, at)?;
            std::hint::black_box(bytes);
        }
        Ok(())
    }

    fn random_store(&mut self) -> Result {
        for at in self.offsets() {
            std::hint::black_box(self.content.read(at..at + SMALL as u64)?);
        }
        Ok(())
    }

    fn offsets(&self) -> impl Iterator<Item = u64> + use<> {
        let mut rng = StdRng::seed_from_u64(7);
        let places = self.pages * PAGE_SIZE / SMALL as u64;
        (0..SMALL_READS).map(move |_| rng.random_range(0..places) * SMALL as u64)
    }

    /// Runs both in turn and prints what they did per second.
    fn compare(
        &mut self,
        what: &str,
        unit: &str,
        work: f64,
        plain: fn(&mut Self) -> Result,
        store: fn(&mut Self) -> Result,
    ) -> Result {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            // Whoever goes second finds memory and disk as the first left them, so they change places.
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let started = Instant::now();
                if side == 0 {
                    plain(self)?
                } else {
                    store(self)?
                };
                times[side].push(started.elapsed());
            }
        }
        let [plain, store] = times.map(|mut times| {
            times.sort_unstable();
            times
        });
        let rate = |time: Duration| work / time.as_secs_f64();
        let show = |times: &[Duration]| {
            let (slow, fast) = (rate(times[ROUNDS - 1]), rate(times[0]));
            format!("{:8.0} ({slow:.0}..{fast:.0})", rate(times[ROUNDS / 2]))
        };
        let ratio = rate(store[ROUNDS / 2]) / rate(plain[ROUNDS / 2]);
        println!("{what:20} {unit:8} plain {:28} store {:28} ratio {ratio:.2}", show(&plain), show(&store));
        Ok(())
    }
}

fn main() -> Result {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let pages: u64 = arguments.next().map_or(Ok(512), |mib| mib.parse())?;
    let dir = tempfile::tempdir_in(parent)?;
    let capacity_bytes = 2 * pages * PAGE_SIZE;
    let store =
        PageStore::open(StoreConfig { dirs: vec![DirConfig { path: dir.path().join("store"), capacity_bytes }] })?;
    let content = store.content(ContentId(1), pages * PAGE_SIZE)?;
    let page = (0..PAGE).map(|at| u8::try_from(at % 251)).collect::<Result<_, _>>()?;
    let mut bench = Bench { store, content, plain: dir.path().join("plain"), pages, page };
    let mib = pages as f64;
    bench.compare("write pages", "MiB/s", mib, Bench::write_plain, Bench::write_store)?;
    bench.compare("read whole pages", "MiB/s", mib, Bench::read_plain, Bench::read_store)?;
    bench.compare("read 4 KiB, random", "reads/s", SMALL_READS as f64, Bench::random_plain, Bench::random_store)?;
    Ok(())
}
