// Package proxy reaches an engine through another package.
package proxy

import _ "broken.example/lib"
