//! How long a soak is to run: what the environment says, or one of the two defaults.

use std::env;
use std::time::Duration;

/// How long a soak is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// So many stretches of work, each with its checkpoint: the small one.
    Stretches(u32),
    /// Stretches until so much time has passed. How far it gets decides nothing.
    Time(Duration),
    /// Stretches until there were so many commits, most of them beside the engines.
    Commits(u64),
}

const TIME: &str = "SNAPCELL_SOAK";
const COMMITS: &str = "SNAPCELL_SOAK_COMMITS";

/// What the environment asks for. Otherwise twenty seconds.
///
/// # Panics
/// If it asks for what makes no sense.
pub(crate) fn asked_for() -> Length {
    let [time, commits] = [TIME, COMMITS].map(|name| match env::var(name) {
        Ok(text) => Some(text),
        Err(env::VarError::NotPresent) => None,
        Err(error) => panic!("{name}: {error}"),
    });
    match length(time.as_deref(), commits.as_deref()) {
        Ok(length) => length.unwrap_or(Length::Time(Duration::from_secs(20))),
        Err(why) => panic!("{why}"),
    }
}

fn length(time: Option<&str>, commits: Option<&str>) -> Result<Option<Length>, String> {
    match (time, commits) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(format!("either {TIME} or {COMMITS} can be set, not both")),
        (Some(text), None) => match time_of(text) {
            Some(time) => Ok(Some(Length::Time(time))),
            None => Err(format!(
                "{TIME} should be a time such as 30s, 10m or 2h, not {text:?}"
            )),
        },
        (None, Some(text)) => match text.parse() {
            Ok(commits) if commits > 0 => Ok(Some(Length::Commits(commits))),
            _ => Err(format!(
                "{COMMITS} should be a number such as 1000000000, not {text:?}"
            )),
        },
    }
}

/// A number of seconds, minutes or hours, but not none.
fn time_of(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.char_indices().last()? {
        (end, 's') => (&text[..end], 1),
        (end, 'm') => (&text[..end], 60),
        (end, 'h') => (&text[..end], 3_600),
        _ => return None,
    };
    let number: u64 = number.parse().ok().filter(|&number| number > 0)?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[test]
fn a_length_is_a_time_or_a_number_of_commits() {
    let time = |text| length(Some(text), None);
    let seconds = |seconds| Ok(Some(Length::Time(Duration::from_secs(seconds))));
    assert_eq!(time("30s"), seconds(30));
    assert_eq!(time("10m"), seconds(600));
    assert_eq!(time("2h"), seconds(7_200));
    assert_eq!(length(None, None), Ok(None));
    assert_eq!(length(None, Some("7")), Ok(Some(Length::Commits(7))));
}

#[test]
fn whatever_else_is_asked_for_is_told_so() {
    for text in [
        "",
        "s",
        "0s",
        "-1s",
        "1.5m",
        "10",
        "10 m",
        "1d",
        "99999999999999999h",
        "é",
    ] {
        let why = length(Some(text), None).unwrap_err();
        assert!(
            why.contains(TIME) && why.contains(&format!("{text:?}")),
            "{why}"
        );
    }
    for text in ["", "0", "-1", "1e9", "1_000"] {
        let why = length(None, Some(text)).unwrap_err();
        assert!(why.contains(COMMITS) && why.contains(text), "{why}");
    }
    assert!(length(Some("1s"), Some("1")).is_err());
}
