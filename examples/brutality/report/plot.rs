//! A plot of the run: commits, lost attempts and latency over time, a line for each class and priority.

use super::groups::{class_key, class_name, percentile};
use super::name_of;
use super::text::grouped;
use crate::args::Arguments;
use crate::books::Entry;
use crate::clock::nanoseconds;
use crate::run::Run;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (1_000, 1_080);
/// The run is cut into so many pieces.
const PIECES: usize = 50;

const COLORS: [RGBColor; 6] = [
    RGBColor(214, 39, 40),
    RGBColor(255, 127, 14),
    RGBColor(31, 119, 180),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(105, 105, 105),
];

/// One class and priority, piece by piece.
struct Series {
    name: String,
    commits: Vec<f64>,
    lost: Vec<f64>,
    latencies: Vec<Vec<u64>>,
}

/// Draws the run into a file.
pub(crate) fn draw(path: &Path, arguments: &Arguments, run: &Run) -> Drawn {
    let seconds = run.elapsed.as_secs_f64().max(1e-9);
    let series = series(run, seconds);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!(
        "{}, {}: {} operations on {} targets",
        name_of(&arguments.mix),
        name_of(&arguments.policy),
        grouped(run.books.entries.len() as u64),
        arguments.targets()
    );
    let root = root.titled(&title, ("sans-serif", 20))?;
    let panels = root.split_evenly((3, 1));
    let piece = seconds / PIECES as f64;
    panel(&panels[0], "commits a second", seconds, &series, |series| {
        series.commits.iter().map(|many| many / piece).collect()
    })?;
    panel(
        &panels[1],
        "attempts a second that lost to another",
        seconds,
        &series,
        |series| series.lost.iter().map(|many| many / piece).collect(),
    )?;
    panel(&panels[2], "latency, p95, µs", seconds, &series, |series| {
        let of_piece = |times: &Vec<u64>| percentile(times, 95) as f64 / 1e3;
        series.latencies.iter().map(of_piece).collect()
    })?;
    root.present()?;
    Ok(())
}

fn series(run: &Run, seconds: f64) -> Vec<Series> {
    let mut members: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
    for entry in &run.books.entries {
        members.entry(class_key(entry)).or_default().push(entry);
    }
    let one = |(key, members): (_, Vec<&Entry>)| {
        let mut series = Series {
            name: class_name(&key),
            commits: vec![0.0; PIECES],
            lost: vec![0.0; PIECES],
            latencies: vec![Vec::new(); PIECES],
        };
        for entry in members {
            let at = run.start.since(entry.ended).as_secs_f64() / seconds;
            let piece = ((at * PIECES as f64) as usize).min(PIECES - 1);
            series.commits[piece] += f64::from(u8::from(entry.is_committed()));
            series.lost[piece] += f64::from(entry.lost());
            series.latencies[piece].push(nanoseconds(entry.latency()));
        }
        series
            .latencies
            .iter_mut()
            .for_each(|times| times.sort_unstable());
        series
    };
    members.into_iter().map(one).collect()
}

fn panel(
    area: &Area<'_>,
    title: &str,
    seconds: f64,
    all: &[Series],
    figures: impl Fn(&Series) -> Vec<f64>,
) -> Drawn {
    let lines: Vec<_> = all
        .iter()
        .map(|series| (&series.name, figures(series)))
        .collect();
    let highest = lines
        .iter()
        .flat_map(|(_, line)| line)
        .copied()
        .fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..seconds, 0.0..highest.max(1.0) * 1.05)?;
    chart
        .configure_mesh()
        .x_desc("s")
        .y_label_formatter(&|figure| grouped(figure.round() as u64))
        .light_line_style(WHITE)
        .draw()?;
    for ((name, line), color) in lines.into_iter().zip(COLORS.into_iter().cycle()) {
        let middle = |piece: usize| (piece as f64 + 0.5) * seconds / PIECES as f64;
        let points = line
            .into_iter()
            .enumerate()
            .map(|(piece, figure)| (middle(piece), figure));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    Ok(())
}
