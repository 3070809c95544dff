// The lab's control server. A module of our own, since the Go proxy does not list headscale's versions.
module holdfast.invalid/lab/headscale

go 1.25.5

require github.com/juanfont/headscale v0.28.0
