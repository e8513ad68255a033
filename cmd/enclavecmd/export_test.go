package enclavecmd

// NewLogger is what writes the log of a program.
var NewLogger = newLogger

// What the backend's listener is wrapped in.
var LimitBackend = limitBackend

// BackendInFlight is how many of its requests may be under way.
const BackendInFlight = backendInFlight
