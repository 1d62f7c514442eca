//! Routes: Marketo's table of endpoints, matched exactly, and the simulator's own three.

use percent_encoding::percent_decode_str;

use crate::domain::ReportKind;
use crate::simulator::call_log::Call;
use crate::simulator::queue::ImportKind;

/// Route of a path. The method is checked later, because Marketo answers 605 only to a caller with a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A token.
    Token,
    /// An upload.
    Create(ImportKind),
    /// The status of the import with this id.
    Status(ImportKind, String),
    /// A report of the import with this id.
    Report(ImportKind, String, ReportKind),
    /// `/simulator/ledger`
    CallLog,
    /// `/simulator/faults`
    Faults,
    /// `/simulator/foreign`
    OtherImports,
    /// A path with `//`, which never reaches Marketo's API.
    Malformed,
    /// Such as `/rest/bulk/…`: the bulk endpoints have no `/rest` before them.
    Unknown,
}

impl Route {
    /// Returns the route of a path.
    pub fn parse(path: &str) -> Route {
        if path.contains("//") {
            return Route::Malformed;
        }
        let parts: Option<Vec<_>> =
            path.split('/').skip(1).map(|part| percent_decode_str(part).decode_utf8().ok()).collect();
        let Some(parts) = parts else { return Route::Unknown };
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        match parts.as_slice() {
            ["identity", "oauth", "token"] => Route::Token,
            ["simulator", "ledger"] => Route::CallLog,
            ["simulator", "faults"] => Route::Faults,
            ["simulator", "foreign"] => Route::OtherImports,
            ["bulk", "v1", rest @ ..] => bulk(rest).unwrap_or(Route::Unknown),
            _ => Route::Unknown,
        }
    }

    /// Returns the kind of call as which the route counts.
    pub fn call(&self) -> Call {
        match self {
            Route::Token => Call::Token,
            Route::Create(_) => Call::Create,
            Route::Status(..) => Call::Status,
            Route::Report(_, _, ReportKind::Failures) => Call::Failures,
            Route::Report(_, _, ReportKind::Warnings) => Call::Warnings,
            _ => Call::Other,
        }
    }
}

fn bulk(parts: &[&str]) -> Option<Route> {
    match *parts {
        ["leads.json"] => Some(Route::Create(ImportKind::Leads)),
        ["leads", "batch", file] => {
            Some(Route::Status(ImportKind::Leads, file.strip_suffix(".json").filter(|id| !id.is_empty())?.to_owned()))
        }
        ["leads", "batch", id, file] => {
            import_query(ImportKind::Leads, id, file).filter(|route| route.call() != Call::Status)
        }
        ["customobjects", name, "import.json"] if !name.is_empty() => {
            Some(Route::Create(ImportKind::CustomObject(name.to_owned())))
        }
        ["customobjects", name, "import", id, file] if !name.is_empty() => {
            import_query(ImportKind::CustomObject(name.to_owned()), id, file)
        }
        ["program", program, "members", "import.json"] if program.parse::<u64>().is_ok() => {
            Some(Route::Create(ImportKind::ProgramMembers))
        }
        ["program", "members", "import", id, file] => import_query(ImportKind::ProgramMembers, id, file),
        _ => None,
    }
}

fn import_query(kind: ImportKind, id: &str, file: &str) -> Option<Route> {
    if id.is_empty() {
        return None;
    }
    match file {
        "status.json" => Some(Route::Status(kind, id.to_owned())),
        "failures.json" => Some(Route::Report(kind, id.to_owned(), ReportKind::Failures)),
        "warnings.json" => Some(Route::Report(kind, id.to_owned(), ReportKind::Warnings)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_thirteen_endpoints_matches() {
        let boat = || ImportKind::CustomObject("boat_c".into());
        let id = || String::from("7");
        for (path, route) in [
            ("/identity/oauth/token", Route::Token),
            ("/bulk/v1/leads.json", Route::Create(ImportKind::Leads)),
            ("/bulk/v1/leads/batch/7.json", Route::Status(ImportKind::Leads, id())),
            ("/bulk/v1/leads/batch/7/failures.json", Route::Report(ImportKind::Leads, id(), ReportKind::Failures)),
            ("/bulk/v1/leads/batch/7/warnings.json", Route::Report(ImportKind::Leads, id(), ReportKind::Warnings)),
            ("/bulk/v1/customobjects/boat_c/import.json", Route::Create(boat())),
            ("/bulk/v1/customobjects/boat%5Fc/import/7/status.json", Route::Status(boat(), id())),
            ("/bulk/v1/customobjects/boat_c/import/7/failures.json", Route::Report(boat(), id(), ReportKind::Failures)),
            ("/bulk/v1/customobjects/boat_c/import/7/warnings.json", Route::Report(boat(), id(), ReportKind::Warnings)),
            ("/bulk/v1/program/1044/members/import.json", Route::Create(ImportKind::ProgramMembers)),
            ("/bulk/v1/program/members/import/7/status.json", Route::Status(ImportKind::ProgramMembers, id())),
            (
                "/bulk/v1/program/members/import/7/failures.json",
                Route::Report(ImportKind::ProgramMembers, id(), ReportKind::Failures),
            ),
            (
                "/bulk/v1/program/members/import/7/warnings.json",
                Route::Report(ImportKind::ProgramMembers, id(), ReportKind::Warnings),
            ),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }

    #[test]
    fn a_similar_path_does_not_match() {
        for path in [
            "/",
            "/rest/bulk/v1/leads.json",
            "/bulk/v1/leads",
            "/bulk/v1/leads.json/",
            "/bulk/v1/leads/batch/7",
            "/bulk/v1/leads/batch/.json",
            "/bulk/v1/leads/batch/7/status.json",
            "/bulk/v1/program/1044/members/import/7/status.json",
            "/bulk/v1/program/x/members/import.json",
            "/bulk/v1/customobjects/boat_c/import/7.json",
            "/bulk/v1/customobjects/%ff/import.json",
            "/oauth/token",
        ] {
            assert_eq!(Route::parse(path), Route::Unknown, "{path}");
        }
        for path in ["//bulk/v1/leads.json", "/bulk//v1/leads.json", "/identity//oauth/token"] {
            assert_eq!(Route::parse(path), Route::Malformed, "{path}");
        }
    }
}
