//! The report as JSON: the whole structure, field by field.

use super::Report;
use std::io::{self, Write};

pub(crate) fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
