//! A plot for each answer: a panel for each case, with a bar for each contender.
//!
//! Drawn pixel by pixel, since a bar has a name at its side and a figure at its end.

use crate::machine::Machine;
use crate::results::{Answer, Better, Case, Spread};
use crate::table::figure;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const COLUMNS: usize = 2;
const PANEL: i32 = 660;
/// The head of the plot, and of a panel; and what is below the bars of one.
const TITLE: i32 = 88;
const HEAD: i32 = 34;
const FOOT: i32 = 56;
const ROW: i32 = 22;
/// Beside the bars: names on the left, figures on the right.
const NAMES: i32 = 220;
const FIGURES: i32 = 80;

const LEGEND: &str =
    "Bar: median; line: least to most. Blue: snapcell; dark: what it is compared with.";

const OURS: RGBColor = RGBColor(31, 119, 180);
const REFERENCE: RGBColor = RGBColor(105, 105, 105);
const OTHERS: RGBColor = RGBColor(185, 185, 185);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// From this ratio of the longest bar to the shortest on, an axis is logarithmic.
const WIDE: f64 = 20.0;

/// Draws the answer into a file.
pub(crate) fn draw(path: &Path, answer: &Answer, machine: &Machine) -> Drawn {
    let lines = || answer.cases.chunks(COLUMNS);
    let columns = lines().map(<[Case]>::len).max().unwrap_or(0);
    let size = (
        (columns as i32 * PANEL) as u32,
        (TITLE + lines().map(height).sum::<i32>()) as u32,
    );
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let Machine {
        cpu, cores, date, ..
    } = machine;
    let place = format!("{cpu}, {cores} cores, {date}");
    write(&root, (16, 24), 20, HPos::Left, answer.title)?;
    write(&root, (16, 48), 13, HPos::Left, &place)?;
    write(&root, (16, 68), 13, HPos::Left, LEGEND)?;
    let mut top = TITLE;
    for line in lines() {
        for (column, case) in (0..).zip(line) {
            let panel = (PANEL as u32, height(line) as u32);
            draw_case(&root.clone().shrink((column * PANEL, top), panel), case)?;
        }
        top += height(line);
    }
    root.present()?;
    Ok(())
}

/// Of a line of panels.
fn height(line: &[Case]) -> i32 {
    let rows = line.iter().map(|case| case.rows.len());
    HEAD + FOOT + ROW * rows.max().unwrap_or(0) as i32
}

fn draw_case(area: &Area<'_>, case: &Case) -> Drawn {
    write(area, (16, HEAD / 2), 16, HPos::Left, &case.name)?;
    let metric = case.metrics[0];
    let bars: Vec<(&str, Spread)> = case
        .rows
        .iter()
        .filter_map(|row| Some((row.contender, row.spread(0)?)))
        .collect();
    let axis = Axis::over(bars.iter().map(|(_, spread)| *spread));
    let bottom = HEAD + ROW * bars.len() as i32;
    for tick in axis.ticks() {
        let x = axis.x(tick);
        let line = vec![(x, HEAD), (x, bottom + 4)];
        area.draw(&PathElement::new(line, GRID.stroke_width(1)))?;
        write(area, (x, bottom + 14), 12, HPos::Center, &round(tick))?;
    }
    let better = match metric.better {
        Better::Less => "shorter is better",
        Better::More => "longer is better",
    };
    let scale = if axis.is_logarithmic {
        "log scale, "
    } else {
        ""
    };
    let label = format!("{}, {} ({scale}{better})", metric.name, metric.unit);
    let middle = (NAMES + PANEL - FIGURES) / 2;
    write(area, (middle, bottom + 34), 13, HPos::Center, &label)?;
    for (index, (contender, spread)) in bars.into_iter().enumerate() {
        let y = HEAD + ROW * index as i32 + ROW / 2;
        let color = if contender.starts_with("snapcell") {
            OURS
        } else if contender == case.reference {
            REFERENCE
        } else {
            OTHERS
        };
        let bar = [(axis.x(axis.from), y - 7), (axis.x(spread.median), y + 7)];
        area.draw(&Rectangle::new(bar, color.filled()))?;
        let line = vec![(axis.x(spread.min), y), (axis.x(spread.max), y)];
        area.draw(&PathElement::new(line, BLACK.stroke_width(1)))?;
        write(area, (NAMES - 8, y), 13, HPos::Right, contender)?;
        let end = PANEL - FIGURES + 8;
        write(area, (end, y), 13, HPos::Left, &figure(spread.median))?;
    }
    Ok(())
}

/// Writes a line around a height, `size` pixels high.
fn write(area: &Area<'_>, at: (i32, i32), size: i32, side: HPos, text: &str) -> Drawn {
    // The backend takes a size for that of the box, and writes smaller letters.
    let style = ("sans-serif", f64::from(size) * 1.24)
        .into_font()
        .color(&BLACK);
    let style = style.pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

/// A round figure, without digits that say nothing.
fn round(tick: f64) -> String {
    if tick >= 1_000.0 {
        return figure(tick);
    }
    let digits = format!("{tick:.2}");
    digits
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

/// Where a figure lies.
struct Axis {
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Axis {
    fn over(spreads: impl Iterator<Item = Spread> + Clone) -> Self {
        let most = spreads.clone().map(|s| s.max).fold(0.0, f64::max);
        let positive = spreads.map(|s| s.min).filter(|min| *min > 0.0);
        let least = positive.fold(most, f64::min);
        // Nothing but zeros need an axis too.
        if most <= 0.0 {
            return Axis {
                from: 0.0,
                to: 1.0,
                is_logarithmic: false,
            };
        }
        let is_logarithmic = most / least > WIDE;
        Axis {
            from: if is_logarithmic {
                10_f64.powf(least.log10().floor())
            } else {
                0.0
            },
            to: most,
            is_logarithmic,
        }
    }

    fn x(&self, figure: f64) -> i32 {
        let share = if self.is_logarithmic {
            (figure.max(self.from) / self.from).log10() / (self.to / self.from).log10()
        } else {
            figure / self.to
        };
        NAMES + (share * f64::from(PANEL - NAMES - FIGURES)) as i32
    }

    /// Round figures along it.
    fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let powers = (0..).map(|power| self.from * 10_f64.powi(power));
            return powers.take_while(|tick| *tick <= self.to).collect();
        }
        // The largest of 1, 2 and 5 times a power of ten that gives four of them.
        let power = 10_f64.powf((self.to / 4.0).log10().floor());
        let steps = [5.0, 2.0, 1.0].map(|factor| factor * power);
        let step = steps.into_iter().find(|step| *step <= self.to / 4.0);
        let step = step.unwrap_or(power);
        (0..)
            .map(|n| f64::from(n) * step)
            .take_while(|tick| *tick <= self.to)
            .collect()
    }
}
