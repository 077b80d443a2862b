//! Many threads, random schedules.
#![cfg(snapcell_shuttle)]
