//! The "total brutality" test: 30 000 operations of four kinds, 60 % of them normal, 30 % high, 10 % critical, on three
//! targets, staged in batches of 100.

use super::hot::Hot;
use crate::args::Arguments;
use crate::workload;
use snapcell::Priority;

pub(crate) fn new(arguments: &Arguments) -> Hot {
    Hot::new(arguments, |operation, _| match operation.priority {
        workload::Priority::Normal => Priority::NORMAL,
        workload::Priority::High => Priority::HIGH,
        workload::Priority::Critical => Priority::CRITICAL,
    })
}
