//! The page: files that are within the program.
//!
//! **Invariant**: nothing is loaded from elsewhere, by the files themselves and by the policy they are
//! served with.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::routing::get;

/// Path, type and content of each file. uPlot is by Leon Sorokin, under the MIT licence beside it.
const FILES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/uplot.js", "text/javascript; charset=utf-8", include_str!("page/uplot.js")),
    ("/uplot.css", "text/css; charset=utf-8", include_str!("page/uplot.css")),
];

/// uPlot sets the sizes of its canvases by `style` attributes.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; \
                      base-uri 'none'; form-action 'none'";

/// The paths of the page.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        let headers: [(HeaderName, &str); 5] = [
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        router.route(path, get(async move || (headers, content)))
    })
}
