#compdef marqueue
# Completion of marqueue for zsh. The program is asked for what can stand at the cursor.
_marqueue() {
    local -a lines folders others
    local line program=${(Q)words[1]}
    lines=("${(@f)$(COMPLETE=zsh _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) "${program/#\~\//$HOME/}" -- "${(@Q)words[1,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        if [[ ${line%%:*} == */ ]]; then
            folders+=("${${line%%:*}%/}")
        else
            others+=("$line")
        fi
    done
    (($#others)) && _describe -V marqueue others
    (($#folders)) && _describe -V folder folders -S / -r /
}
if [[ ${funcstack[1]} == _marqueue ]]; then
    _marqueue "$@"
else
    compdef _marqueue marqueue
fi
