//! Dated results: every sample as JSON, tables as Markdown, plots as SVG.

use crate::machine::Machine;
use crate::plot;
use crate::results::Answer;
use crate::runner::Plan;
use crate::table;
use crate::targets::{self, Outcome};
use serde::Serialize;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

/// Where they lie, in the package.
const FOLDER: &str = "benches/results";

/// What is saved as JSON.
#[derive(Serialize)]
struct Results<'a> {
    machine: &'a Machine,
    repeats: usize,
    slice_ms: u128,
    long_slice_ms: u128,
    answers: &'a [Answer],
    targets: &'a [Outcome],
}

/// Saves all of it beside what was saved before, and returns the path of the Markdown. `part` names the questions if they are not all.
pub(crate) fn save(
    plan: &Plan,
    machine: &Machine,
    part: Option<String>,
    answers: &[Answer],
    outcomes: &[Outcome],
) -> Result<PathBuf, Box<dyn Error>> {
    let part = part.map_or(String::new(), |part| format!("-{part}"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    fs::create_dir_all(&folder)?;
    let name = free_name(
        &folder,
        &format!("{}-{}{part}", machine.date, machine.slug()),
    );

    let results = Results {
        machine,
        repeats: plan.repeats,
        slice_ms: plan.slice.as_millis(),
        long_slice_ms: plan.long_slice.as_millis(),
        answers,
        targets: outcomes,
    };
    let json = folder.join(format!("{name}.json"));
    fs::write(json, serde_json::to_string(&results)? + "\n")?;

    let mut text = format!(
        "# snapcell beside others\n\n{}* Medians of {} repeats of {} ms, with the least and the most. Ratios are \
         medians of those of the repeats: 2× is twice as good.\n* Every sample: [{name}.json]({name}.json)\n\n{}",
        machine.markdown(),
        plan.repeats,
        plan.slice.as_millis(),
        targets::table(outcomes)
    );
    for answer in answers.iter().filter(|answer| !answer.cases.is_empty()) {
        let plot = format!("{name}-{}.svg", answer.question);
        plot::draw(&folder.join(&plot), answer, machine)?;
        write!(text, "\n{}", table::answer(answer))?;
        write!(text, "\n![{}]({plot})\n", answer.title)?;
    }
    let markdown = folder.join(format!("{name}.md"));
    fs::write(&markdown, text)?;
    Ok(markdown)
}

/// The name, with a number behind it if there are such results.
fn free_name(folder: &Path, name: &str) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = iter::once(name.to_owned()).chain(numbered);
    let free = names.find(|name| !folder.join(format!("{name}.json")).exists());
    free.expect("numbers don't end")
}
