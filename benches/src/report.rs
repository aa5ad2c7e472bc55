//! Rows, ratios and how they are printed.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::world::Scale;

/// Figures of the rounds of one side: larger is better.
#[derive(Clone, Debug)]
struct Side {
    figures: Vec<f64>,
}

impl Side {
    fn median(&self) -> f64 {
        median(&self.figures)
    }
}

/// The middle, or between the two of an even number.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The table of one run.
#[derive(Debug)]
pub(crate) struct Report {
    markdown: bool,
    lines: Vec<[String; 5]>,
}

impl Report {
    pub(crate) const fn new(markdown: bool) -> Self {
        Self { markdown, lines: Vec::new() }
    }

    /// Measures a baseline and Headpond in turn, so that both see the same weather. Each closure does its work once and answers
    /// how much was done, in `unit`s; the figures are rates. Answers ours.
    pub(crate) fn compare(
        &mut self,
        scale: Scale,
        what: &str,
        unit: &str,
        reach: &str,
        baseline: impl FnMut() -> Result<f64>,
        ours: impl FnMut() -> Result<f64>,
    ) -> Result<f64> {
        self.compare_after(scale, what, unit, reach, || Ok(()), baseline, ours)
    }

    /// As [`Report::compare`]; `prepare` is called before each of the two, and its time does not count.
    #[expect(clippy::too_many_arguments, reason = "what a row says, and what makes it")]
    pub(crate) fn compare_after(
        &mut self,
        scale: Scale,
        what: &str,
        unit: &str,
        reach: &str,
        mut prepare: impl FnMut() -> Result<()>,
        mut baseline: impl FnMut() -> Result<f64>,
        mut ours: impl FnMut() -> Result<f64>,
    ) -> Result<f64> {
        let (mut base, mut own) = (Side { figures: Vec::new() }, Side { figures: Vec::new() });
        for round in 0..=scale.rounds {
            prepare()?;
            let a = rested(&mut baseline)?;
            prepare()?;
            let b = rested(&mut ours)?;
            if round > 0 {
                base.figures.push(a);
                own.figures.push(b);
            }
        }
        let ratios: Vec<_> = own.figures.iter().zip(&base.figures).map(|(own, base)| own / base).collect();
        let (low, high) = ratios.iter().fold((f64::MAX, 0f64), |(low, high), r| (low.min(*r), high.max(*r)));
        self.line([
            what.to_owned(),
            format!("{} {unit}", figure(base.median())),
            format!("{} {unit}", figure(own.median())),
            format!("{:.2} × ({low:.2}–{high:.2})", median(&ratios)),
            reach.to_owned(),
        ]);
        Ok(own.median())
    }

    /// A row without a timing of its own.
    pub(crate) fn fact(&mut self, what: &str, baseline: &str, ours: &str, ratio: &str, reach: &str) {
        self.line([what, baseline, ours, ratio, reach].map(str::to_owned));
    }

    #[expect(clippy::print_stderr, reason = "shows progress while the table is made")]
    fn line(&mut self, line: [String; 5]) {
        eprintln!("{}", line.join(" | "));
        self.lines.push(line);
    }

    /// Prints the table.
    #[expect(clippy::print_stdout, reason = "the table is what the program is for")]
    pub(crate) fn finish(mut self) {
        let head = ["what", "baseline", "Headpond", "ratio, median (spread)", "reach"].map(str::to_owned);
        self.lines.insert(0, head);
        let widths: Vec<_> =
            (0..5).map(|n| self.lines.iter().map(|line| line[n].chars().count()).max().unwrap_or(0)).collect();
        for (n, line) in self.lines.iter().enumerate() {
            if self.markdown {
                println!("| {} |", line.join(" | "));
                if n == 0 {
                    println!("|---|---|---|---|---|");
                }
            } else {
                let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                println!("{}", cells.join("  ").trim_end());
            }
        }
    }
}

/// The rate of `work`, begun when nothing is left to be written to disk: what was done before is not to be paid for by it.
pub(crate) fn rested(mut work: impl FnMut() -> Result<f64>) -> Result<f64> {
    rustix::fs::sync();
    rate(&mut work)
}

fn rate(work: &mut impl FnMut() -> Result<f64>) -> Result<f64> {
    let started = Instant::now();
    let done = work()?;
    Ok(done / started.elapsed().max(Duration::from_nanos(1)).as_secs_f64())
}

/// Three significant digits with a thousands mark.
pub(crate) fn figure(value: f64) -> String {
    match value {
        value if value >= 10_000_000.0 => format!("{:.1} M", value / 1e6),
        value if value >= 10_000.0 => format!("{:.1} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
