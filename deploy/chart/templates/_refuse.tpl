{{- /*
What cannot work is refused here, everything at once, with the value and the remedy. The schema refuses what is misspelt
or of another kind.
*/ -}}
{{- define "vasp-enclave.refusals" -}}
{{- $v := .Values -}}
{{- $bad := list -}}

{{- if not (has $v.shape (list "sidecar" "shared")) -}}
{{- $bad = append $bad "shape is not set: choose sidecar, for a backend of one replica, or shared, for several pods of it" -}}
{{- end -}}
{{- if gt (int $v.replicaCount) 1 -}}
{{- $bad = append $bad (printf "replicaCount is %d: the history is one file that one process may open, so the second replica would not start; set it to 1, and let several pods of your backend share the one enclave (shape: shared)" (int $v.replicaCount)) -}}
{{- end -}}
{{- if not $v.persistence.enabled -}}
{{- $bad = append $bad "persistence.enabled is false: the history, with the identity and what is not delivered yet, would be in an emptyDir and go with the pod; set it to true, or name a claim in persistence.existingClaim" -}}
{{- end -}}
{{- if has "ReadWriteMany" $v.persistence.accessModes -}}
{{- $bad = append $bad "persistence.accessModes has ReadWriteMany: such volumes are network file systems, whose locks let in a second writer; set [ReadWriteOncePod]" -}}
{{- end -}}
{{- range $v.extraVolumes -}}
{{- if has .name (list "history" "vega-config" "vega-secrets" "vega-tls") -}}
{{- $bad = append $bad (printf "extraVolumes: %s is a volume of this chart, which yours would take the place of; give yours another name" .name) -}}
{{- end -}}
{{- end -}}
{{- range $v.extraVolumeMounts -}}
{{- if hasPrefix "/var/lib/enclave/" (printf "%s/" (trimSuffix "/" .mountPath)) -}}
{{- $bad = append $bad (printf "extraVolumeMounts: %s lies where the history is, which must be on the volume of persistence; mount it elsewhere" .mountPath) -}}
{{- end -}}
{{- end -}}

{{- if not (has $v.peerTrust (list "tofu" "verified")) -}}
{{- $bad = append $bad "peerTrust is not set: choose tofu, which believes the central server at first contact with a counterparty, or verified, which exchanges with nobody before an operator has compared a safety number" -}}
{{- end -}}

{{- $s := $v.public.service -}}
{{- if and (eq $v.public.callerAddress "kept") (ne $s.type "ClusterIP") (ne $s.externalTrafficPolicy "Local") -}}
{{- $bad = append $bad (printf "public.service.externalTrafficPolicy is %s: the Service would put a node's address in the place of the caller's, and the allowlist judge that; set Local, or let the balancer send the PROXY protocol and set public.callerAddress to proxyProtocol with its addresses in public.trustedProxies" $s.externalTrafficPolicy) -}}
{{- end -}}
{{- if and (ne $v.public.callerAddress "kept") (not $v.public.trustedProxies) -}}
{{- $bad = append $bad (printf "public.trustedProxies is empty: with public.callerAddress %s the enclave must know whose word on the caller counts; give the addresses that the balancer's connections have at the pod" $v.public.callerAddress) -}}
{{- end -}}
{{- if and (eq $v.public.callerAddress "kept") (or $v.public.trustedProxies $v.public.forwardedHeader) -}}
{{- $bad = append $bad "public.trustedProxies and public.forwardedHeader do nothing with public.callerAddress kept; set it to proxyProtocol or forwardedHeader, or leave them empty" -}}
{{- end -}}
{{- if and (eq $v.public.callerAddress "forwardedHeader") (not $v.public.forwardedHeader) -}}
{{- $bad = append $bad "public.forwardedHeader is not set: name the header in which the balancer names the caller, such as X-Forwarded-For" -}}
{{- end -}}
{{- if not $v.central.allowlist -}}
{{- $bad = append $bad "central.allowlist is empty: nobody could connect; give the addresses that the central server calls from" -}}
{{- end -}}

{{- $acme := $v.certificate.acme -}}
{{- if and (not $v.certificate.secretName) (not $acme.termsAgreed) -}}
{{- $bad = append $bad "certificate: there is none; name a Secret in certificate.secretName, or have one issued: read the authority's terms and set certificate.acme.termsAgreed to true" -}}
{{- end -}}
{{- if and $v.certificate.secretName $acme.termsAgreed -}}
{{- $bad = append $bad "certificate.secretName and certificate.acme.termsAgreed are both set: keep one of them" -}}
{{- end -}}
{{- if and (not $v.certificate.secretName) (eq $acme.challenge "tls-alpn-01") -}}
{{- if ne (int $s.port) 443 -}}
{{- $bad = append $bad (printf "public.service.port is %d: with tls-alpn-01 the certificate authority calls port 443, always; set 443, or certificate.acme.challenge to http-01" (int $s.port)) -}}
{{- end -}}
{{- if and (eq $s.type "NodePort") (not (int $s.nodePort)) -}}
{{- $bad = append $bad "public.service.type is NodePort: with tls-alpn-01 the certificate authority calls port 443, and which port of the node it would have to be led to is not set; set public.service.nodePort and have 443 led there, or set LoadBalancer" -}}
{{- end -}}
{{- if eq $v.public.callerAddress "forwardedHeader" -}}
{{- $bad = append $bad "certificate.acme.challenge is tls-alpn-01: a balancer that ends TLS answers the authority itself; name the certificate between it and the enclave in certificate.secretName" -}}
{{- end -}}
{{- end -}}
{{- if and (not $v.certificate.secretName) (eq $acme.challenge "http-01") (eq $v.public.callerAddress "proxyProtocol") -}}
{{- $bad = append $bad "certificate.acme.challenge is http-01: a balancer that sends the PROXY protocol sends it at port 80 too, where the enclave reads plain HTTP; set tls-alpn-01" -}}
{{- end -}}

{{- range $name, $value := dict "image.repository" $v.image.repository "vasp.id" $v.vasp.id "vasp.networkId" $v.vasp.networkId "central.endpoint" $v.central.endpoint "central.accessKey" $v.central.accessKey "public.endpoint" $v.public.endpoint "backend.userUrl" $v.backend.userUrl "backend.accountUrl" $v.backend.accountUrl "secrets.name" $v.secrets.name "secrets.databaseKey" $v.secrets.databaseKey "secrets.allianceKey" $v.secrets.allianceKey -}}
{{- if not $value -}}
{{- $bad = append $bad (printf "%s is not set: the enclave does not start without it" $name) -}}
{{- end -}}
{{- end -}}
{{- if not (kindIs "string" $v.vasp.id) -}}
{{- $bad = append $bad "vasp.id is a number: write it in quotes, since YAML cuts the last digits of long numbers off" -}}
{{- end -}}
{{- if and (eq $v.image.tag "latest") (not $v.image.digest) -}}
{{- $bad = append $bad "image.tag is latest: a restart could bring another program, and a newer one upgrades the history, which does not go back; set image.digest, or the tag of a version" -}}
{{- end -}}

{{- $plain := eq (get $v.settings "VEGA_UNSAFE_VERIFICATION_HTTP" | default "false") "true" -}}
{{- range $name, $url := $v.backend -}}
{{- if and $url (hasPrefix "http://" $url) (not $plain) (not (get $v.settings "VEGA_VERIFICATION_SOCKET")) -}}
{{- if not (regexMatch "^http://(localhost|127\\.[0-9.]+|\\[::1\\])([:/]|$)" $url) -}}
{{- $bad = append $bad (printf "backend.%s is http to another pod: personal data and the token would travel in clear; write https, or set VEGA_UNSAFE_VERIFICATION_HTTP to \"true\" in settings" $name) -}}
{{- end -}}
{{- if eq $v.shape "shared" -}}
{{- if regexMatch "^http://(localhost|127\\.[0-9.]+|\\[::1\\])([:/]|$)" $url -}}
{{- $bad = append $bad (printf "backend.%s leads to the enclave's own pod, where no backend is with shape shared; write the URL of the backend's Service" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $owned := include "vasp-enclave.owned" . | fromYaml -}}
{{- $secret := include "vasp-enclave.secret" . | fromYaml -}}
{{- $known := include "vasp-enclave.known" . | fromJsonArray -}}
{{- range $name, $value := $v.settings -}}
{{- $plainName := trimSuffix "_FILE" $name -}}
{{- if hasKey $owned $name -}}
{{- $bad = append $bad (printf "settings.%s is what the value %s makes: set that instead" $name (get $owned $name)) -}}
{{- else if hasKey $secret $plainName -}}
{{- $bad = append $bad (printf "settings.%s is a secret: whoever may look at the pod would read it; put it into the Secret and name its key in %s" $name (get $secret $plainName)) -}}
{{- else if not (has $name $known) -}}
{{- $bad = append $bad (printf "settings.%s is no setting of the enclave, which would only warn of it: see docs/settings.md" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $key := $v.secrets.more -}}
{{- if ne (get $secret $name) "secrets.more" -}}
{{- $bad = append $bad (printf "secrets.more.%s is no secret setting, or one with a value of its own (%s); see docs/settings.md" $name (get $secret $name | default "settings")) -}}
{{- end -}}
{{- end -}}

{{- if eq $v.shape "sidecar" -}}
{{- if not $v.sidecar.containers -}}
{{- $bad = append $bad "sidecar.containers is empty: a sidecar stands beside something; give your backend's containers, or set shape to shared" -}}
{{- end -}}
{{- range $v.sidecar.containers -}}
{{- $of := .name -}}
{{- if eq .name "enclave" -}}
{{- $bad = append $bad "sidecar.containers: enclave is the name of the enclave's own container; give yours another" -}}
{{- end -}}
{{- range .ports -}}
{{- if has .name (list "public" "challenge" "metrics" "backend") -}}
{{- $bad = append $bad (printf "sidecar.containers: %s has a port that is called %s, as one of the enclave's; give it another name" $of .name) -}}
{{- end -}}
{{- if has (int .containerPort) (list 8443 8480 9464 21117 21118) -}}
{{- $bad = append $bad (printf "sidecar.containers: port %d is one of the enclave's (8443, 8480, 9464, 21117, 21118), and containers of a pod share their ports; have yours listen elsewhere" (int .containerPort)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (get $v.settings "VEGA_UNSAFE_SERVER_HOST") (not $v.secrets.serverToken) -}}
{{- $bad = append $bad "settings.VEGA_UNSAFE_SERVER_HOST is set without secrets.serverToken: other pods could read and send personal data; name the key of a token, or take shape shared" -}}
{{- end -}}
{{- end -}}
{{- if eq $v.shape "shared" -}}
{{- if not $v.secrets.serverToken -}}
{{- $bad = append $bad "secrets.serverToken is not set: whoever reaches the Service could read and send personal data; name the key of a token that the backend's pods send" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.backendFrom) -}}
{{- $bad = append $bad "networkPolicy.backendFrom is empty: no pod could call the enclave; select your backend's pods, as in [{podSelector: {matchLabels: {app: backend}}}]" -}}
{{- end -}}
{{- if $v.sidecar.containers -}}
{{- $bad = append $bad "sidecar.containers do not run with shape shared: deploy your backend by itself, or set shape to sidecar" -}}
{{- end -}}
{{- end -}}

{{- $stop := include "vasp-enclave.stop" . | int -}}
{{- with int $v.terminationGracePeriodSeconds -}}
{{- if le . $stop -}}
{{- $bad = append $bad (printf "terminationGracePeriodSeconds is %d: stopping takes up to %d s by the settings, and the pod would be killed before; leave it unset, or set more" . $stop) -}}
{{- end -}}
{{- end -}}
{{- if le (get $v.settings "VEGA_SHUTDOWN_DELAY_MS" | default "6000" | int) 5000 -}}
{{- $bad = append $bad "settings.VEGA_SHUTDOWN_DELAY_MS is not more than 5000: the readiness probe asks every 5 s, and the enclave would stop taking work before the cluster hears of it; set more, or leave it unset" -}}
{{- end -}}
{{- toJson $bad -}}
{{- end }}

{{- define "vasp-enclave.refuse" -}}
{{- with include "vasp-enclave.refusals" . | fromJsonArray -}}
{{- fail (printf "\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end }}
