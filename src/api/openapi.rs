//! OpenAPI description: routes with their access rules, and the document made from them.

pub(super) mod document;
pub(super) mod route;
pub(super) mod routes;
